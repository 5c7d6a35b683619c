"""Relation networks (Sung, Yang, Zhang, Xiang, Torr, Hospedales, 2018)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_maps, map_shape
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import class_means, in_full_precision
from quickstudy.strategies.strategy import EmbeddingStrategy, LossAndLogits, Theta

Objective = Literal["squared error", "cross-entropy"]


class RelationNetwork(EmbeddingStrategy):
    """A network scores how well a query matches a class: the comparison is learned too.

        c_k = mean of the maps f(x_i; φ) over the support of class k
        r_k(x) = sigmoid(g([c_k, f(x; φ)]; φ)),   L = mean of (r_k(x) − 1[y = k])²

    where [·, ·] puts maps on top of each other. Logits are g, the log-odds of the scores, so that
    p(y = k | x) ∝ r_k / (1 − r_k): what independent scores imply if exactly one class is right.

    Sung, Yang, Zhang, Xiang, Torr, Hospedales, "Learning to Compare: Relation Network for Few-Shot
    Learning", CVPR 2018, equations 1 and 2, figure 2. The paper sums the maps of a class; the mean
    is the same to the first layer up to a factor, but suits any number of shots. Maps are padded
    when convolved, and pooled only where there is room, so that small ones do.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``. Its maps before that are
            compared if it has any (see ``feature_maps``), else the vectors as maps of one place.
        channels: channels of the relation module's two convolutions; 64 in the paper.
        hidden: the width of its hidden linear layer; 8 in the paper.
        objective: "squared error" of the scores, as in the paper, or "cross-entropy" of the logits.
    """

    paper = "Sung, Yang, Zhang, Xiang, Torr, Hospedales, 2018"

    def __init__(
        self,
        encoder: nn.Module,
        channels: int = 64,
        hidden: int = 8,
        objective: Objective = "squared error",
    ) -> None:
        super().__init__(encoder)
        if objective not in get_args(Objective):
            raise InputError(
                f"The objective {objective!r} is unknown; choose squared error or cross-entropy."
            )
        if channels < 1 or hidden < 1:
            raise InputError(
                f"A relation module of {channels} channels and {hidden} hidden units was asked "
                "for; both must be at least 1."
            )
        self.channels = channels
        self.hidden = hidden
        self.objective = objective
        self.relation = RelationModule(
            # Softmax does not see what is added to all classes alike.
            map_shape(encoder),
            channels,
            hidden,
            bias=objective == "squared error",
        )

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        """Maps, flattened to ``[T, N, C H W]``, of inputs ``[T, N, *shape]``."""
        return feature_maps(self.encoder, inputs.flatten(0, 1)).reshape(*inputs.shape[:2], -1)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"classes": class_means(support.inputs, support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        shape = self.relation.map_shape
        classes = theta["classes"]
        logits: Tensor = self.relation(
            classes.view(*classes.shape[:2], *shape), features.view(*features.shape[:2], *shape)
        )
        return logits

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        if self.objective == "cross-entropy":
            return super().loss(episode, features)
        logits = self(episode, features)
        return squared_error(logits, episode.query.targets), logits


@in_full_precision
def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of (r_k − 1[y = k])², of logits ``[T, Q, ways]`` and targets ``[T, Q]``."""
    return F.mse_loss(logits.sigmoid(), F.one_hot(targets, logits.shape[-1]).to(logits.dtype))


class RelationModule(nn.Module):
    """g: two blocks of convolution, normalisation, ReLU and halving, then two linear layers.

    Args:
        map_shape: (C, H, W) of the maps that are compared.
        channels: channels of the convolutions.
        hidden: the width of the first linear layer.
        bias: whether the second has one.
    """

    def __init__(
        self, map_shape: tuple[int, int, int], channels: int, hidden: int, bias: bool = True
    ) -> None:
        super().__init__()
        deep, height, width = self.map_shape = map_shape
        self.first = nn.Conv2d(2 * deep, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        for _ in range(2):
            if min(height, width) > 1:
                height, width = height // 2, width // 2
        self.linear = nn.Linear(channels * height * width, hidden)
        self.score = nn.Linear(hidden, 1, bias=bias)

    def forward(self, classes: Tensor, queries: Tensor) -> Tensor:
        """Logits ``[T, Q, K]`` of classes ``[T, K, C, H, W]`` with queries ``[T, Q, C, H, W]``."""
        x = self._first(classes, queries)
        pairs = x.shape[:3]
        x = _halved(self.first_norm(x.flatten(0, 2)))
        x = _halved(self.second_norm(self.second(x)))
        logits: Tensor = self.score(torch.relu(self.linear(x.flatten(1))))
        return logits.view(pairs)

    def _first(self, classes: Tensor, queries: Tensor) -> Tensor:
        """The first convolution of all pairs ``[T, Q, K, channels, H, W]``.

        A convolution is linear, so that a pair's is the sum of its two halves'. Each class and
        each query is convolved once, instead of once for every pair.
        """
        kernels = self.first.weight.chunk(2, dim=1)
        of_class, of_query = (
            F.conv2d(maps.flatten(0, 1), kernel, padding=1)
            for maps, kernel in zip((classes, queries), kernels, strict=True)
        )
        tasks, ways = classes.shape[:2]
        of_query = of_query.reshape(tasks, -1, 1, *of_query.shape[1:])
        return of_query + of_class.reshape(tasks, 1, ways, *of_class.shape[1:])


def _halved(x: Tensor) -> Tensor:
    """ReLU, and 2x2 max-pooling of maps that have room for it; the two commute."""
    return torch.relu(F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x)
