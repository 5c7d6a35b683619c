"""The baseline of Chen, Liu, Kira, Wang, Huang (2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.pretrained import PretrainedStrategy
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive, linear, target_matrix
from quickstudy.strategies.strategy import Theta

EPOCHS, BATCH = 100, 4
"""How long the paper trains a task's classifier, and on how many examples a step."""


class Baseline(PretrainedStrategy):
    """A new linear classifier on the features of a network that knows the training classes.

        W ← W − η (∇_W cross-entropy(support; W, b) + δ W),   b likewise,   W = 0, b = 0 at first
        ŷ = Wᵀ f(x) + b

    Chen, Liu, Kira, Wang, Huang, "A Closer Look at Few-shot Classification", ICLR 2019, section
    3.2. What differs: each step is on the whole support, where the paper draws 4 examples, and W
    starts at zero instead of at random, so that θ depends on the support alone. The paper's
    momentum is left out: damped by its own size, as there, it only smooths. Since W stays a sum of
    features, W = Xᵀ A, the steps are taken on A ``[N, ways]``: the same W for much less work.

    Args:
        head_steps: gradient steps on a task; by default 100 ⌈N / 4⌉, the paper's 100 epochs of
            batches of 4.
        head_learning_rate: η.
        head_weight_decay: δ.
    """

    paper = "Chen, Liu, Kira, Wang, Huang, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        head_steps: int | None = None,
        head_learning_rate: float = 0.01,
        head_weight_decay: float = 0.001,
    ) -> None:
        super().__init__(encoder, classes)
        name = type(self).__name__
        if head_steps is not None and head_steps < 0:
            raise InputError(f"{name}'s head_steps is {head_steps}; it must be 0 or more, or null.")
        check_positive(name, head_learning_rate=head_learning_rate)
        if not head_weight_decay >= 0:
            raise InputError(
                f"{name}'s head_weight_decay is {head_weight_decay}; it must not be negative."
            )
        self.head_steps = head_steps
        self.head_learning_rate = head_learning_rate
        self.head_weight_decay = head_weight_decay

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        features = support.inputs
        coefficients, bias = self.descend(features, target_matrix(support, ways))
        return {"weight": combined(features, coefficients), "bias": bias}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])

    def steps(self, examples: int) -> int:
        """Gradient steps on a task of so many support examples."""
        default = EPOCHS * math.ceil(examples / BATCH)
        return default if self.head_steps is None else self.head_steps

    def descend(self, features: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """A ``[T, N, ways]`` and b ``[T, ways]`` after all steps."""
        gram = inner_products(features)
        rate, decay = self.head_learning_rate, self.head_weight_decay
        coefficients = torch.zeros_like(members, dtype=gram.dtype)
        bias = coefficients[:, :1]
        for _ in range(self.steps(members.shape[1])):
            probabilities = torch.baddbmm(bias, gram, coefficients).softmax(-1)
            slope = (probabilities - members) / members.shape[1]
            coefficients = (1 - rate * decay) * coefficients - rate * slope
            bias = (1 - rate * decay) * bias - rate * slope.sum(1, keepdim=True)
        return coefficients, bias[:, 0]


@in_full_precision
def inner_products(features: Tensor) -> Tensor:
    """X Xᵀ, ``[T, N, N]``."""
    return features @ features.mT


@in_full_precision
def combined(features: Tensor, coefficients: Tensor) -> Tensor:
    """Aᵀ X, ``[T, ways, D]``."""
    return coefficients.mT @ features
