"""What neural processes have in common."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.perceptron import perceptron
from quickstudy.strategies.functional import in_full_precision, task_loss
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import EmbeddingStrategy, LossAndLogits, Theta


class NeuralProcess(EmbeddingStrategy):
    """A set of examples is put together, in no order, to what a decoder g reads beside a query.

    In regression all examples of a task are one set. It is represented as r(x), for all queries
    alike or for each its own, and g gives a normal distribution of the answer:

        (μ, ω) = g(f(x), r(x)),   σ = ε + (1 − ε) softplus(ω),   y ~ N(μ, σ²)

    Meta-training makes the answers' likelihood large, of the query and of the support itself.

    In classification the examples of each class are a set, which is how labels come in, and g gives
    every class its logit, from its own r_k(x) and what the classes are like on average:

        p(y = k | x) ∝ exp g(f(x), r_k(x), mean of r_1(x) .. r_K(x))

    A subclass says how a set is represented (:meth:`adapt_features`, :meth:`representation`).

    Args:
        encoder: f, maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        target_size: length of a target in regression; None for classification.
        summary: the length of r.
        width: width of the decoder.
        decoder_layers: number of layers of the decoder.
        least_deviation: ε, the smallest standard deviation of an answer.
    """

    regression = True

    def __init__(
        self,
        encoder: nn.Module,
        target_size: int | None,
        summary: int,
        width: int,
        decoder_layers: int,
        least_deviation: float,
    ) -> None:
        super().__init__(encoder)
        name = type(self).__name__
        check_positive(name, width=width)
        if target_size is not None:
            check_positive(name, target_size=target_size)
        if decoder_layers < 2 or not 0 < least_deviation < 1:
            raise InputError(
                f"{name}'s decoder_layers is {decoder_layers} and its least_deviation "
                f"{least_deviation}; the first must be at least 2, the second between 0 and 1."
            )
        self.target_size = self.ways = target_size
        self.width = width
        self.decoder_layers = decoder_layers
        self.least_deviation = least_deviation
        size, classes = feature_size(encoder), target_size is None
        said = 1 if target_size is None else 2 * target_size
        # The first layer is linear in the query and in what stands for a set.
        self.of_query = nn.Linear(size, width)
        self.of_set = nn.Linear(2 * summary if classes else summary, width, bias=False)
        self.decoder = perceptron(*[width] * (decoder_layers - 1))
        # What is added to the logits of all classes cancels in the softmax.
        self.output = nn.Linear(width, said, bias=not classes)

    @abstractmethod
    def representation(self, theta: Theta, features: Tensor) -> Tensor:
        """r: ``[T, Q, S, summary]`` of S sets for queries ``[T, Q, D]``; a 1 for Q if all alike."""

    @property
    def pair_size(self) -> int:
        """The length of an example as :meth:`sets` gives it."""
        return feature_size(self.encoder) + (self.target_size or 0)

    def sets(self, examples: Examples, ways: int) -> tuple[Tensor, Tensor, int]:
        """The examples ``[T, N, pair_size]``, which set each is of ``[T, N]``, and how many sets.

        Args:
            examples: features ``[T, N, D]`` with targets ``[T, N]`` or ``[T, N, target_size]``.
            ways: the number of classes, or the length of a target.

        Raises:
            ValueError: when the task is not of the kind that this strategy was made for.
        """
        inputs, targets = examples.inputs, examples.targets
        numbers = targets.is_floating_point()
        if numbers and self.target_size is None:
            raise InputError(
                f"The task's targets are numbers, and this {type(self).__name__} was made for "
                f"classes: make one with target_size={ways}."
            )
        if not numbers and self.target_size is not None:
            raise InputError(
                f"The task's targets are classes, and this {type(self).__name__} was made for "
                f"targets of {self.target_size} numbers: make one without target_size."
            )
        self.check_ways(ways)
        if self.target_size is None:
            return inputs, targets, ways
        one = torch.zeros(targets.shape[:2], dtype=torch.int64, device=targets.device)
        return torch.cat([inputs, targets.to(inputs.dtype)], dim=-1), one, 1

    def decode(self, theta: Theta, features: Tensor) -> Tensor:
        """What g says of queries ``[T, Q, D]`` and each set: ``[T, Q, S, n]``.

        In classification n is 1, a logit; in regression all μ stand before all ω.
        """
        sets = self.representation(theta, features)
        if self.target_size is None:
            sets = torch.cat([sets, sets.mean(2, keepdim=True).expand_as(sets)], dim=-1)
        hidden = (self.of_query(features)[:, :, None] + self.of_set(sets)).relu()
        return in_float32(self.output, self.decoder(hidden).relu())

    def distribution(self, theta: Theta, features: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ, both ``[T, Q, target_size]``, of features ``[T, Q, D]``."""
        mean, raw = self.decode(theta, features)[:, :, 0].chunk(2, dim=-1)
        return mean, self.least_deviation + (1 - self.least_deviation) * F.softplus(raw)

    def predict_distribution(self, theta: Theta, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The normal distribution of each answer in regression.

        Args:
            theta: what :meth:`adapt` gave.
            inputs: ``[T, Q, *shape]``.

        Returns:
            Mean and standard deviation, both ``[T, Q, target_size]``; the mean is what
            :meth:`predict` gives.

        Raises:
            ValueError: in classification.
        """
        if self.target_size is None:
            raise InputError(
                f"This {type(self).__name__} was made for classes, whose distribution is the "
                "softmax of what `predict` gives. For numbers make one with `target_size`."
            )
        return self.distribution(theta, self.encode(inputs, theta))

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        if self.target_size is None:
            return self.decode(theta, features)[..., 0]
        return self.distribution(theta, features)[0]

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        if self.target_size is None:
            return super().loss(episode, features)
        features = self.embed(episode, {}) if features is None else features
        support, everything = self.embedded(episode, features)
        return self.surprise(self.adapt_features(support, episode.ways), everything), None

    def embedded(self, episode: Episode, features: Tensor) -> tuple[Examples, Examples]:
        """The support, and support and query together, with what :meth:`embed` made of both."""
        targets = torch.cat([episode.support.targets, episode.query.targets], dim=1)
        shots = episode.support.inputs.shape[1]
        return Examples(features[:, :shots], targets[:, :shots]), Examples(features, targets)

    def surprise(self, theta: Theta, examples: Examples) -> Tensor:
        """The mean of −log p(y | x, θ) over examples ``[T, N, D]``."""
        if self.target_size is None:
            return task_loss(self.predict_features(theta, examples.inputs), examples.targets)
        mean, deviation = self.distribution(theta, examples.inputs)
        return -log_likelihood(examples.targets, mean, deviation).mean()


@in_full_precision
def log_likelihood(targets: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """The logarithm of N(y; μ, σ²), ``[...]``, of D independent numbers y ``[..., D]``."""
    squares = ((targets - mean) / deviation).square()
    return -(0.5 * squares + deviation.log() + 0.5 * math.log(2 * math.pi)).sum(-1)


@in_full_precision
def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` in float32 at least: what likelihoods are made of."""
    output: Tensor = layer(x)
    return output
