"""A network that reads the support and emits every weight of a small learner network."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import Encoded, encoded_tasks
from quickstudy.encoders import MLP, Conv4
from quickstudy.encoders.encoder import Encoder, feature_size
from quickstudy.encoders.task_normalization import (
    check_uses,
    recorded_statistics,
    task_batch_norms,
    use_batch_statistics,
    with_task_batch_norm,
)
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.amortized.learners import LinearLearner
from quickstudy.strategies.amortized.weight_decoder import WeightDecoder
from quickstudy.strategies.bases.set_networks import SetNetwork, StrategyNetwork
from quickstudy.strategies.foreign import running
from quickstudy.strategies.functional import call_with, class_means, map_tasks
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import Strategy, Theta


class WholeHypernetwork(Strategy):
    """A strategy network reads the support and emits every weight of a small learner network.

        t_1..t_N = F(f(x_1), y_1, .., f(x_N), y_N; φ)      a token for each example
        θ_p = θ⁰_p + Δ_p(t_1, .., t_N)                     each tensor p of the learner
        z̄_k = mean of g(x_i; θ) over the support of class k,   h_k = mean of t_i over the same
        w_k = 2τ z̄_k + A [h_k, z̄_k],   b_k = −τ|z̄_k|² + a h_k
        ŷ_k = w_kᵀ g(x; θ) + b_k

    g is the learner, which sees the raw inputs; θ⁰, its own weights, are learned too, and Δ is
    small at the beginning (:class:`WeightDecoder`). Batch normalisation inside g divides by the
    statistics of the support, which belong to θ. The row of a class is made from what was read of
    that class and where g puts it, so that any number of ways will do; with A and a at zero it is
    a prototypical network whose encoder was made for the task. In regression the last layer has
    no classes and is emitted like the others: ŷ = W g(x; θ) + b.

    Ha, Dai, Le, "HyperNetworks", ICLR 2017, section 3.1, for weights emitted row by row; Zhmoginov,
    Sandler, Vladymyrov, "HyperTransformer", ICML 2022, for the reading of the support and for a
    last layer that sees it through the layers emitted before. Unlike HyperTransformer, which emits
    layer after layer, all layers but the last are emitted at once, and as changes of learned
    weights; normalisation's scales and shifts are emitted as well.

    Args:
        encoder: f, which the strategy network reads through: inputs ``[B, *shape]`` to vectors
            ``[B, D]``; states ``out_features``.
        learner: g, whose weights are emitted: inputs to vectors; states ``out_features`` and, as f,
            need not be an ``Encoder``. In the strategy, its batch normalisation uses each task's
            statistics (``TaskBatchNorm``). By default a Conv4 of 16 channels for images, an MLP of
            (40, 40) for vectors, of the encoder's ``input_shape``.
        strategy_network: "cnn", "rnn" or "transformer".
        target_size: the length of a target, for regression; by default it classifies.
        width: width of the strategy network.
        layers: number of layers of the strategy network.
        change: the size of the first Δ, relative to usual weights.
    """

    paper = "after Ha, Dai, Le, 2017, and Zhmoginov, Sandler, Vladymyrov, 2022"
    regression = True

    def __init__(
        self,
        encoder: nn.Module,
        learner: Encoder | None = None,
        strategy_network: StrategyNetwork = "transformer",
        target_size: int | None = None,
        width: int = 128,
        layers: int = 2,
        change: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive("WholeHypernetwork", width=width, layers=layers, change=change)
        if target_size is not None:
            check_positive("WholeHypernetwork", target_size=target_size)
        self.encoder = encoder
        learner = default_learner(encoder) if learner is None else learner
        self.learner = self.lend(learner, with_task_batch_norm(learner))
        self.strategy_network = strategy_network
        self.target_size = self.ways = target_size
        self.width = width
        self.layers = layers
        self.change = change
        features = feature_size(self.learner)
        read = feature_size(encoder) + (target_size or 0)
        self.reader = SetNetwork(strategy_network, read, width, layers)
        self.head: nn.Module
        if target_size is not None:
            self.head = nn.Linear(features, target_size)
        else:
            self.head = LinearLearner(features, width)
            # Squared distances grow with the length of vectors; logits at the start should not.
            self.log_temperature = nn.Parameter(torch.tensor(-0.5 * math.log(features)))
            with torch.no_grad():
                for parameter in self.head.parameters():
                    parameter.mul_(change)
        shapes = {name: parameter.shape for name, parameter in self.shared().items()}
        self.decoder = WeightDecoder(shapes, width, change)
        self._norms = list(task_batch_norms(self.learner).values())

    def shared(self) -> Theta:
        """θ⁰ by the names that θ has; frozen parameters of the learner are no part of it."""
        parts = OrderedDict(learner=self.learner)
        if self.target_size is not None:
            parts["head"] = self.head
        return {
            f"{part}.{name}": parameter
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def read(self, support: Examples, ways: int) -> tuple[Tensor, Tensor]:
        """A token for each example ``[T, N, width]``, and the targets' classes in that order.

        In regression a token is of an input and its target, and all examples are of one class.
        """
        features = encoded_tasks(self.encoder, support.inputs)
        targets = support.targets
        if self.target_size is not None:
            features = torch.cat([features, targets.to(features.dtype)], dim=-1)
            targets, ways = targets.new_zeros(targets.shape[:2], dtype=torch.int64), 1
        return self.reader.read(features, targets, ways)

    def features(
        self, theta: Theta, inputs: Tensor, *, record: bool = False
    ) -> tuple[Tensor, Theta]:
        """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``, by the learner with its weights θ.

        Args:
            theta: the emitted weights, and the statistics unless they are recorded.
            inputs: of T tasks.
            record: normalise by the statistics of these inputs, and return them to join θ.
        """
        prefix, network = "learner.", Encoded(self.learner)
        own = {
            f"encoder.{name.removeprefix(prefix)}": each
            for name, each in theta.items()
            if name.startswith(prefix)
        }
        for norm in self._norms:
            use_batch_statistics(norm, record)

        def of_one_task(weights: Theta, x: Tensor) -> tuple[Tensor, Theta]:
            with recorded_statistics(self.learner) as statistics:
                vectors: Tensor = call_with(network, weights, x)
                check_uses(self._norms)
            return vectors, statistics

        with running(self, self.learner, of_one_task, own, inputs) as at_once:
            vectors, statistics = map_tasks(of_one_task, own, inputs, at_once=at_once)
        return vectors, {f"learner.{name}": each for name, each in statistics.items()}

    def adapt(self, support: Examples, ways: int) -> Theta:
        self.check(support, ways)
        tokens, targets = self.read(support, ways)
        changes = self.decoder(tokens)
        theta = {name: each + changes[name] for name, each in self.shared().items()}
        if self.target_size is not None and not self._norms:
            return theta
        features, statistics = self.features(theta, support.inputs, record=True)
        theta |= statistics
        if self.target_size is not None:
            return theta
        codes = class_means(tokens, targets, ways)
        means = class_means(features, support.targets, ways)
        return theta | self.rows(codes, means)

    def rows(self, codes: Tensor, means: Tensor) -> Theta:
        """The last layer from h ``[T, ways, width]`` and z̄ ``[T, ways, D]``."""
        emitted = self.head.emit(codes, codes.mean(1), means)  # type: ignore[operator]
        temperature = self.log_temperature.exp()
        return {
            "head.weight": 2 * temperature * means + emitted["weight"],
            "head.bias": emitted["bias"] - temperature * means.square().sum(-1),
        }

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        features, _ = self.features(theta, inputs)
        return linear(features, theta["head.weight"], theta["head.bias"])

    def check(self, support: Examples, ways: int) -> None:
        """Refuses numbers where it was made for classes, and the other way round (ValueError)."""
        self.check_ways(ways)
        if support.targets.is_floating_point() != (self.target_size is not None):
            given = "numbers" if self.target_size is None else "classes"
            wanted = "target_size, their length" if self.target_size is None else "no target_size"
            raise InputError(
                f"The targets of this task are {given}, and this WholeHypernetwork was not made "
                f"for them; make and train one with {wanted}."
            )


def default_learner(encoder: nn.Module) -> Encoder:
    """A small network for the inputs that ``encoder`` reads.

    Raises:
        ValueError: when it does not state their shape.
    """
    shape = getattr(encoder, "input_shape", None)
    if shape is None:
        raise InputError(
            f"The encoder {type(encoder).__name__} does not state its `input_shape`, so there is "
            "no usual learner for it; give the network whose weights are to be emitted as learner."
        )
    if len(shape) != 3:
        return MLP(shape, (40, 40))
    return Conv4(shape, channels=16, blocks=min(4, min(shape[1:]).bit_length() - 1))
