"""The learning algorithms that a portfolio mixes, each with settings that a network emits.

All of them take any number of ways and unequal shots, and learn from features whose mean squared
distance from their centre is 1, so that a setting means the same for every encoder and task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import class_means, in_full_precision, similarity
from quickstudy.strategies.solvers import (
    linear,
    ridge,
    ridge_left_out,
    target_matrix,
    with_constant,
)
from quickstudy.strategies.strategy import Theta

MemberName = Literal["prototypes", "ridge", "neighbors", "gradient"]

LEAST_PENALTY = 1e-3
"""Of ridge regression: with less, float32 would not do for some hundreds of examples."""

STEPS = 5
"""Gradient steps of the linear classifier."""

FAR = -1e9
"""How near an example counts as to itself where it is left out."""


class Member(ABC):
    """One learning algorithm: from a support and settings to θ, and from θ to logits.

    Attributes:
        settings: what it must be told for each task, all more than 0, with usual values.
    """

    settings: ClassVar[dict[str, float]]

    @abstractmethod
    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        """θ from features ``[T, N, D]`` and settings ``[T, 1, 1]``."""

    @abstractmethod
    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        """Logits ``[T, Q, ways]`` of features ``[T, Q, D]``."""

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor | None:
        """What it says of each example when it learns from the others: ``[T, N, ways]``.

        None where that takes learning N times. Of no meaning for an example that is the only one
        of its class.
        """
        return None


class Prototypes(Member):
    """The nearest class mean: logits = −s ‖x − c_k‖²."""

    settings: ClassVar[dict[str, float]] = {"scale": 4.0}

    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        means = class_means(support.inputs, support.targets, ways)
        return {"prototypes": means, "scale": settings["scale"]}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return theta["scale"] * similarity(features, theta["prototypes"], "euclidean")

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor:
        # Without x, one of n, its class's mean is further from it by the factor n / (n − 1).
        near = self.logits(self.learn(support, ways, settings), support.inputs)
        own = F.one_hot(support.targets, ways).to(near)
        shots = own.sum(1, keepdim=True)
        further = (shots / (shots - 1).clamp(min=1)).square()
        return near * torch.where(own > 0, further, 1.0)


class Ridge(Member):
    """Ridge regression to one-hot targets: W = Xᵀ (X Xᵀ + λ I)⁻¹ Y, logits = s Wᵀ x."""

    settings: ClassVar[dict[str, float]] = {"penalty": 0.1, "scale": 8.0}

    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        inputs, penalty = with_constant(support.inputs), self.penalty(settings)
        solution = settings["scale"] * ridge(inputs, target_matrix(support, ways), penalty)
        return {"weight": solution[:, :-1].mT, "bias": solution[:, -1]}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor:
        inputs, penalty = with_constant(support.inputs), self.penalty(settings)
        return settings["scale"] * ridge_left_out(inputs, target_matrix(support, ways), penalty)

    def penalty(self, settings: Theta) -> Tensor:
        """λ ``[T]``."""
        return LEAST_PENALTY + settings["penalty"][:, 0, 0]


class Neighbors(Member):
    """Each example votes for its class: logits = s log Σ over class k of exp(−τ ‖x − x_i‖²)."""

    settings: ClassVar[dict[str, float]] = {"temperature": 8.0, "scale": 1.0}

    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        members = F.one_hot(support.targets, ways).to(support.inputs.dtype)
        return {"features": support.inputs, "members": members, **settings}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        near = theta["temperature"] * similarity(features, theta["features"], "euclidean")
        return theta["scale"] * log_sums(near, theta["members"])

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor:
        theta = self.learn(support, ways, settings)
        near = theta["temperature"] * similarity(support.inputs, support.inputs, "euclidean")
        oneself = torch.eye(near.shape[-1], dtype=torch.bool, device=near.device)
        return theta["scale"] * log_sums(near.masked_fill(oneself, FAR), theta["members"])


@in_full_precision
def log_sums(near: Tensor, members: Tensor) -> Tensor:
    """Log of Σ over each class of exp(near).

    A class whose sum is to the largest as the smallest number is to 1, or that has no examples,
    counts as that small.

    Args:
        near: ``[T, Q, N]``.
        members: one-hot classes ``[T, N, ways]``.

    Returns:
        ``[T, Q, ways]``.
    """
    nearest = near.amax(2, keepdim=True)
    sums = (near - nearest).exp() @ members
    return sums.clamp(min=torch.finfo(sums.dtype).tiny).log() + nearest


class Gradient(Member):
    """A linear classifier that begins at the prototypes and takes some gradient steps.

    W_k = 2 s c_k, b_k = −s ‖c_k‖² at first (Triantafillou et al. 2020, Proto-MAML), then W and b
    move by −η times the gradient of the support's cross-entropy.
    """

    settings: ClassVar[dict[str, float]] = {"scale": 4.0, "rate": 1.0}

    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        means = class_means(support.inputs, support.targets, ways)
        lengths = means.square().sum(-1, keepdim=True)
        start = settings["scale"] * torch.cat([2 * means, -lengths], dim=-1)
        members = target_matrix(support, ways)
        found = descended(start, with_constant(support.inputs), members, settings["rate"])
        return {"weight": found[:, :, :-1], "bias": found[:, :, -1]}

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])


@in_full_precision
def descended(start: Tensor, inputs: Tensor, members: Tensor, rate: Tensor) -> Tensor:
    """A softmax classifier after :data:`STEPS` steps of gradient descent.

    Args:
        start: W, ``[T, ways, D]``.
        inputs: X, ``[T, N, D]``.
        members: one-hot classes ``[T, N, ways]``.
        rate: η, ``[T, 1, 1]``.

    Returns:
        W, ``[T, ways, D]``.
    """
    weight = start
    for _ in range(STEPS):
        errors = (inputs @ weight.mT).softmax(-1) - members
        weight = weight - rate / inputs.shape[1] * (errors.mT @ inputs)
    return weight


MEMBERS: dict[str, Member] = {
    "prototypes": Prototypes(),
    "ridge": Ridge(),
    "neighbors": Neighbors(),
    "gradient": Gradient(),
}
