"""Baseline++ (Chen, Liu, Kira, Wang, Huang, 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.strategies.finetune.baseline import Baseline, combined, inner_products
from quickstudy.strategies.functional import in_full_precision, similarity
from quickstudy.strategies.solvers import check_positive, target_matrix
from quickstudy.strategies.strategy import Theta


class BaselinePlusPlus(Baseline):
    """Like the baseline, but a class is a direction: its logit is a cosine.

        ŷ_k = s cos(w_k, f(x)),   w_k ← w_k − η (∇ cross-entropy(support; w) + δ w_k)

    Chen, Liu, Kira, Wang, Huang, "A Closer Look at Few-shot Classification", ICLR 2019, section
    3.2. The same classifier learns the training classes, so that the features of a class point one
    way. What differs: on a task w_k starts at the mean direction of its class's support, where the
    paper starts at random, and each step is on the whole support, without momentum, as in
    :class:`Baseline`. w_k stays a sum of the directions u_i of the support's features, and the
    steps are taken on the shares.

    Args:
        scale: s.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        scale: float = 10.0,
        head_steps: int | None = None,
        head_learning_rate: float = 0.01,
        head_weight_decay: float = 0.001,
    ) -> None:
        check_positive("BaselinePlusPlus", scale=scale)
        self.scale = scale
        super().__init__(encoder, classes, head_steps, head_learning_rate, head_weight_decay)

    def make_classifier(self, classes: int) -> nn.Module:
        return CosineClassifier(feature_size(self.encoder), classes, self.scale)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        directions = F.normalize(support.inputs, dim=-1)
        shares = self.shares(directions, target_matrix(support, ways))
        return {"directions": combined(directions, shares)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return self.scale * similarity(features, theta["directions"], "cosine")

    def shares(self, directions: Tensor, members: Tensor) -> Tensor:
        """The shares A ``[T, N, ways]`` after all steps: w_k = Σ_i A_ik u_i.

        With c_ik = cos(w_k, u_i) and p its softmax over k, the gradient of the cross-entropy by w_k
        is the sum over i of s (p_ik − y_ik) (u_i − c_ik w_k / |w_k|) / |w_k| / N.
        """
        gram = inner_products(directions)
        examples = members.shape[1]
        rate, decay = self.head_learning_rate, self.head_weight_decay
        shares = members.to(gram.dtype) / members.sum(1, keepdim=True).clamp(min=1)
        for _ in range(self.steps(examples)):
            products = gram @ shares  # of w_k with u_i
            length = (shares * products).sum(1, keepdim=True).clamp(min=1e-24).sqrt()
            cosines = products / length
            slope = self.scale * ((self.scale * cosines).softmax(-1) - members) / examples
            along = (slope * cosines).sum(1, keepdim=True) / length
            gradient = (slope - along * shares) / length
            shares = (1 - rate * decay) * shares - rate * gradient
        return shares


class CosineClassifier(nn.Module):
    """Logits s cos(w_k, x).

    Args:
        size: D, the length of x.
        classes: how many w_k.
        scale: s.
    """

    def __init__(self, size: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.directions = nn.Parameter(torch.randn(classes, size) / math.sqrt(size))

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[..., classes]`` of features ``[..., D]``."""
        return self.scale * _cosines(features, self.directions)


@in_full_precision
def _cosines(features: Tensor, directions: Tensor) -> Tensor:
    return F.normalize(features, dim=-1) @ F.normalize(directions, dim=-1).mT
