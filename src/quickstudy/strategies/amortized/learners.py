"""The learners that a strategy mixes: what a network emits, or settings of which it emits.

A learner turns θ into logits (:meth:`Learner.logits`). An :class:`EmittedLearner` has a θ that a
network writes from the codes of a task; a :class:`TaughtLearner` finds θ by learning from the
support, with settings that a network writes. All take features ``[T, Q, D]`` to logits
``[T, Q, ways]``, any number of ways and unequal shots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import class_means, in_full_precision, similarity
from quickstudy.strategies.solvers import (
    linear,
    linear_classifier,
    ridge,
    ridge_left_out,
    target_matrix,
    with_constant,
)
from quickstudy.strategies.strategy import Theta

LearnerName = Literal["linear", "nearest", "mlp"]
MemberName = Literal["prototypes", "ridge", "neighbors", "gradient"]

LEAST_PENALTY = 1e-3
"""The smallest ridge penalty: with less, float32 is too coarse for some hundreds of examples."""

STEPS = 5
"""Gradient steps of the linear classifier."""

FAR = -1e9
"""The similarity of an example to itself where it is left out."""


class Learner(ABC):
    """One learning algorithm, seen from its θ."""

    @abstractmethod
    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        """Logits ``[T, Q, ways]`` of features ``[T, Q, D]``."""


def mixture(theta: Theta, learners: Mapping[str, Any], features: Tensor) -> Tensor:
    """The logarithm ``[T, Q, ways]`` of Σ_m π_m softmax(r_m logits_m(x; θ_m)).

    Args:
        theta: each learner's θ under its name (:func:`under`), ``log_shares`` (log π) and
            ``sharpness`` (r), both ``[T, M]``; without the latter two π_m or r_m is 1.
        learners: M learners by name.
        features: x, ``[T, Q, D]``.
    """
    mixed = []
    for number, (name, learner) in enumerate(learners.items()):
        own = {k.partition(".")[2]: v for k, v in theta.items() if k.startswith(f"{name}.")}
        logits: Tensor = learner.logits(own, features)
        if "sharpness" in theta:
            logits = theta["sharpness"][:, number, None, None] * logits
        logits = logits.log_softmax(-1)
        if "log_shares" in theta:
            logits = logits + theta["log_shares"][:, number, None, None]
        mixed.append(logits)
    return torch.stack(mixed).logsumexp(0)


def under(name: str, theta: Theta) -> Theta:
    """θ of the learner of that name, as a part of the θ of several."""
    return {f"{name}.{key}": value for key, value in theta.items()}


# -- emitted ---------------------------------------------------------------------------------------


class EmittedLearner(nn.Module, Learner):
    """A learner whose θ is written from the codes of a task.

    Args:
        features: D, the length of a feature.
        width: length of the codes.
    """

    @abstractmethod
    def __init__(self, features: int, width: int) -> None: ...

    @abstractmethod
    def emit(self, classes: Tensor, task: Tensor, means: Tensor) -> Theta:
        """θ from class codes ``[T, ways, width]``, task codes ``[T, width]`` and class means."""


class LinearLearner(EmittedLearner):
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


class NearestLearner(EmittedLearner):
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


class MLPLearner(EmittedLearner):
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


LEARNERS: dict[str, type[EmittedLearner]] = {
    "linear": LinearLearner,
    "nearest": NearestLearner,
    "mlp": MLPLearner,
}


# -- taught ----------------------------------------------------------------------------------------


class TaughtLearner(Learner):
    """A learner that finds θ in the support, given settings.

    Features come with a mean squared distance of 1 from their centre, so that a setting means the
    same for every encoder and task.

    Attributes:
        settings: the settings that it needs for each task, all positive, with default values.
    """

    settings: ClassVar[dict[str, float]]

    @abstractmethod
    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        """θ from features ``[T, N, D]`` and settings ``[T, 1, 1]``."""

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor | None:
        """Logits ``[T, N, ways]`` of each example by the learner that learned from the others.

        None where that takes N trainings. Meaningless for the only example of a class.
        """
        return None


class Prototypes(TaughtLearner):
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


class Ridge(TaughtLearner):
    """Ridge regression to one-hot targets: W = Xᵀ (X Xᵀ + λ I)⁻¹ Y, logits = s Wᵀ x."""

    settings: ClassVar[dict[str, float]] = {"penalty": 0.1, "scale": 8.0}

    def learn(self, support: Examples, ways: int, settings: Theta) -> Theta:
        inputs, penalty = with_constant(support.inputs), self.penalty(settings)
        solution = settings["scale"] * ridge(inputs, target_matrix(support, ways), penalty)
        return linear_classifier(solution)

    def logits(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])

    def left_out(self, support: Examples, ways: int, settings: Theta) -> Tensor:
        inputs, penalty = with_constant(support.inputs), self.penalty(settings)
        return settings["scale"] * ridge_left_out(inputs, target_matrix(support, ways), penalty)

    def penalty(self, settings: Theta) -> Tensor:
        """λ ``[T]``."""
        return LEAST_PENALTY + settings["penalty"][:, 0, 0]


class Neighbors(TaughtLearner):
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


class Gradient(TaughtLearner):
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


MEMBERS: dict[str, TaughtLearner] = {
    "prototypes": Prototypes(),
    "ridge": Ridge(),
    "neighbors": Neighbors(),
    "gradient": Gradient(),
}
