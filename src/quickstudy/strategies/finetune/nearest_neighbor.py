"""Nearest neighbour on features: the baseline that every strategy should beat."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import Distance, check_distance, similarity
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class NearestNeighbor(EmbeddingStrategy):
    """A query belongs to the class of its nearest support example.

        p(y = k | x) ∝ exp(max over the support of class k of −d(f(x), f(x_i)) / s)

    with s the mean squared distance between support features, so that confidences do not depend
    on their scale (cosines are not divided).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; raw inputs by default.
        distance: "euclidean" (squared) or "cosine".
    """

    paper = "Cover, Hart, 1967"

    def __init__(self, encoder: nn.Module | None = None, distance: Distance = "euclidean") -> None:
        super().__init__(nn.Flatten() if encoder is None else encoder)
        check_distance(distance)
        self.distance = distance

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"features": support.inputs, "members": F.one_hot(support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        near = similarity(features, theta["features"], self.distance)  # [T, Q, N]
        if self.distance == "euclidean":
            spread = -similarity(theta["features"], theta["features"], "euclidean")
            near = near / spread.mean((1, 2), keepdim=True).clamp(min=1e-12)
        member = theta["members"].bool()[:, None]  # [T, 1, N, ways]
        by_class = torch.where(member, near[..., None], near.new_tensor(-torch.inf))
        return by_class.amax(2)
