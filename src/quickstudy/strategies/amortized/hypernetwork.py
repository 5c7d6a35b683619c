"""The founding idea: a network that reads the support and emits the learners' parameters."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from quickstudy.compute.encoding import encoded_tasks
from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.amortized.learners import LEARNERS, LearnerName, mixture, under
from quickstudy.strategies.bases.modulation import (
    Modulations,
    modulated_channels,
    modulated_features,
)
from quickstudy.strategies.bases.set_networks import SetNetwork, StrategyNetwork
from quickstudy.strategies.functional import class_means
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class Hypernetwork(EmbeddingStrategy):
    """A strategy network reads the whole support and emits the weights of one or more learners.

        (h_1..h_K, g) = F(f(x_1), y_1, .., f(x_N), y_N; φ)       codes of the classes and the task
        θ_m = E_m(h, g),   π = softmax(A g)                      the learners' weights, their shares
        p(y | x) = Σ_m π_m softmax(learner_m(f(x); θ_m))_y

    With ``modulate``, a second network reads the support first and emits a scale and a shift for
    each channel of the encoder's layers (feature-wise linear modulation, Perez et al. 2018).

    Ha, Dai, Le, "HyperNetworks", ICLR 2017, for networks that emit networks. The emission for each
    class, so that any number of ways will do, follows Gordon et al., "Meta-Learning Probabilistic
    Inference for Prediction", ICLR 2019, without its distribution over weights.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. For
            ``modulate`` it also states ``modulated_channels`` and takes a modulation.
        strategy_network: "cnn", "rnn" or "transformer".
        learners: the learners to emit: "linear", "nearest" (a point for each class), "mlp" (one
            hidden layer). Several are mixed by shares that depend on the task.
        modulate: also emit the modulation of the encoder's layers.
        width: width of the strategy network.
        layers: number of layers of the strategy network.
    """

    paper = "after Ha, Dai, Le, 2017, and Gordon et al., 2019"

    def __init__(
        self,
        encoder: nn.Module,
        strategy_network: StrategyNetwork = "transformer",
        learners: Sequence[LearnerName] = ("linear", "nearest"),
        modulate: bool = False,
        width: int = 128,
        layers: int = 2,
    ) -> None:
        super().__init__(encoder)
        unknown = [name for name in learners if name not in LEARNERS]
        if unknown or not learners:
            raise InputError(
                f"The learners {list(learners)} cannot be emitted; name one or more of "
                f"{', '.join(LEARNERS)}."
            )
        self.strategy_network = strategy_network
        self.learners = tuple(learners)
        self.modulate = modulate
        self.width = width
        self.layers = layers
        features = feature_size(encoder)
        self.reader = SetNetwork(strategy_network, features, width, layers)
        self.emitters = nn.ModuleDict(
            {name: LEARNERS[name](features, width) for name in self.learners}
        )
        self.shares = nn.Linear(width, len(self.learners))
        if modulate:
            channels = modulated_channels(encoder, otherwise=", or modulate=False")
            self.first_encoder = copy.deepcopy(encoder)
            self.first_reader = SetNetwork(strategy_network, features, width, layers)
            self.modulations = Modulations(nn.Linear(width, 2 * wide) for wide in channels)

    def condition(self, support: Examples, ways: int) -> Theta:
        """The modulation, when there is one: ``[T, channels]`` scale and shift of each layer."""
        if not self.modulate:
            return {}
        features = encoded_tasks(self.first_encoder, support.inputs)
        _, task = self.first_reader(features, support.targets, ways)
        theta: Theta = self.modulations(task)
        return theta

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``, modulated by θ."""
        if not self.modulate:
            return super().encode(inputs, theta)
        return modulated_features(self.encoder, inputs, theta)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        classes, task = self.reader(support.inputs, support.targets, ways)
        means = class_means(support.inputs, support.targets, ways)
        theta = {"log_shares": self.shares(task).log_softmax(-1)}
        for name, emitter in self.emitters.items():
            emitted = emitter.emit(classes, task, means)  # type: ignore[operator]
            theta |= under(name, emitted)
        return theta

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return mixture(theta, dict(self.emitters.items()), features)
