"""The learners whose parameters a hypernetwork emits.

A learner has two sides: ``emit`` makes its θ from the codes of a task, ``logits`` uses that θ. All
of them take features ``[T, Q, D]`` to logits ``[T, Q, ways]`` and any number of ways.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from quickstudy.strategies.functional import similarity
from quickstudy.strategies.strategy import Theta

LearnerName = Literal["linear", "nearest", "mlp"]


class Learner(nn.Module, ABC):
    """Emits and uses the parameters of one learning algorithm.

    Args:
        features: D, the length of a feature.
        width: of the codes that the strategy network writes.
    """

    @abstractmethod
    def __init__(self, features: int, width: int) -> None: ...

    @abstractmethod
    def emit(self, classes: Tensor, task: Tensor, means: Tensor) -> Theta:
        """θ from class codes ``[T, ways, width]``, task codes ``[T, width]`` and class means."""

    @abstractmethod
    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        """Logits ``[T, Q, ways]`` of features ``[T, Q, D]``."""


class LinearLearner(Learner):
    """A linear classifier: logits = W x + b, a row of W and an entry of b for each class."""

    def __init__(self, features: int, width: int) -> None:
        nn.Module.__init__(self)
        # An offset that all classes share would leave the softmax as it is: no biases.
        self.rows = nn.Linear(width + features, features, bias=False)
        self.biases = nn.Linear(width, 1, bias=False)

    def emit(self, classes: Tensor, task: Tensor, means: Tensor) -> Theta:
        weight = self.rows(torch.cat([classes, means], dim=-1))
        return {"weight": weight, "bias": self.biases(classes)[:, :, 0]}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return features @ theta["weight"].transpose(1, 2) + theta["bias"][:, None]


class NearestLearner(Learner):
    """A point for each class, moved away from its mean; logits are −τ times squared distance."""

    def __init__(self, features: int, width: int) -> None:
        nn.Module.__init__(self)
        self.moves = nn.Linear(width, features)
        self.log_scale = nn.Linear(width, 1)
        for layer in (self.moves, self.log_scale):  # begin as a prototypical network
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def emit(self, classes: Tensor, task: Tensor, means: Tensor) -> Theta:
        return {"points": means + self.moves(classes), "scale": self.log_scale(task)[:, 0].exp()}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return theta["scale"][:, None, None] * similarity(features, theta["points"], "euclidean")


class MLPLearner(Learner):
    """One hidden layer: logits = V relu(U x + u) + v, with U and u from the task code."""

    hidden = 32

    def __init__(self, features: int, width: int) -> None:
        nn.Module.__init__(self)
        self.hidden_weight = nn.Linear(width, self.hidden * features)
        self.hidden_bias = nn.Linear(width, self.hidden)
        # As in LinearLearner, an offset that all classes share would change nothing.
        self.output_weight = nn.Linear(width, self.hidden, bias=False)
        self.output_bias = nn.Linear(width, 1, bias=False)
        # U's part that every task shares begins as a fresh linear layer's weights would.
        nn.init.normal_(self.hidden_weight.bias, std=features**-0.5)

    def emit(self, classes: Tensor, task: Tensor, means: Tensor) -> Theta:
        return {
            "hidden.weight": self.hidden_weight(task).unflatten(-1, (self.hidden, -1)),
            "hidden.bias": self.hidden_bias(task),
            "output.weight": self.output_weight(classes),
            "output.bias": self.output_bias(classes)[:, :, 0],
        }

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        hidden = features @ theta["hidden.weight"].transpose(1, 2) + theta["hidden.bias"][:, None]
        output = hidden.relu() @ theta["output.weight"].transpose(1, 2)
        return output + theta["output.bias"][:, None]


LEARNERS: dict[str, type[Learner]] = {
    "linear": LinearLearner,
    "nearest": NearestLearner,
    "mlp": MLPLearner,
}
