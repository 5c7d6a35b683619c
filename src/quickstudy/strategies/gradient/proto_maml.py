"""Proto-MAML (Triantafillou and others, 2020)."""

from __future__ import annotations

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode, Examples
from quickstudy.episodes.episode import unchecked_episode, unchecked_examples
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, RecomputableLoop
from quickstudy.strategies.functional import class_means
from quickstudy.strategies.strategy import Theta


class ProtoMAML(GradientStrategy):
    """MAML whose linear layer starts as the classifier of the nearest prototype.

        c_k = mean of f(x_i; φ) over the support of class k
        W_k = 2 c_k,   b_k = −|c_k|²,   θ_0 = (φ, W, b),   θ_{s+1} = θ_s − α ∇ L(support; θ_s)

    At the start the logits W f(x) + b equal −|f(x) − c_k|² up to |f(x)|², which all classes share.
    The meta-gradient flows through W and b too. No parameter belongs to a class, so the strategy
    works with any number of ways.

    Triantafillou, Zhu, Dumoulin, Lamblin, Evci, Xu, Goroshin, Gelada, Swersky, Manzagol,
    Larochelle, "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", ICLR
    2020, section 3.

    Args:
        inner_learning_rate: the step size α; less than MAML's, because prototypes are long.
        first_order: leave out second derivatives; gradients still flow through the prototypes.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Triantafillou and others, 2020"
    regression = False

    def __init__(
        self,
        encoder: nn.Module,
        inner_steps: int = 5,
        inner_learning_rate: float = 0.01,
        **inner_loop: Unpack[RecomputableLoop],
    ) -> None:
        super().__init__(encoder, 1, inner_steps, inner_learning_rate, **inner_loop)
        self.ways = None
        self.head = HeadOfTask(feature_size(encoder))  # type: ignore[assignment]

    def begin(self, inputs: Tensor, members: Tensor) -> Theta:
        features = self.features(inputs, batch_statistics=True)
        prototypes = class_means(features[None], members.argmax(-1)[None], members.shape[-1])[0]
        head = {"head.weight": 2 * prototypes, "head.bias": -prototypes.square().sum(-1)}
        # An inner step takes W and b for parameters like any other. The encoder's are views, so
        # that its inner gradient leaves out the way by which φ came into W and b.
        return {name: each.view_as(each) for name, each in self.start().items()} | head

    def inner_loss(self, theta: Theta, inputs: Tensor, members: Tensor, step: int) -> Tensor:
        return super().inner_loss(theta, inputs, members.argmax(-1), step)

    def adapt(self, support: Examples, ways: int) -> Theta:
        return super().adapt(with_members(support, ways), ways)

    def forward(self, episode: Episode) -> Tensor:
        support = with_members(episode.support, episode.ways)
        return super().forward(unchecked_episode(support, episode.query, episode.ways))


def with_members(support: Examples, ways: int) -> Examples:
    """The support with memberships ``[T, N, ways]`` for targets: a task then shows its ways."""
    return unchecked_examples(support.inputs, F.one_hot(support.targets, ways))


class HeadOfTask(nn.Module):
    """A linear layer that is all θ's: it has neither parameters nor outputs of its own.

    Args:
        features: the length of its inputs.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, features), persistent=False)
        self.register_buffer("bias", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)
