"""LaplacianShot (Ziko, Dolz, Granger, Ben Ayed, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.strategies.functional import similarity
from quickstudy.strategies.transductive.bd_cspn import aligned, check_rectification, rectified
from quickstudy.strategies.transductive.transductive_strategy import (
    TransductiveStrategy,
    check_steps,
    weighted_means,
)


class LaplacianShot(TransductiveStrategy):
    """A query goes to the nearest prototype, and where its nearest neighbours go.

        min over y of  Σ_qk y_qk d(z_q, m_k) + λ/4 Σ_qp w_qp ‖y_q − y_p‖² + Σ_qk y_qk log y_qk

    for labels y_q on the simplex, with d the squared distance and w_qp = 1 where the query p is one
    of the k nearest of the query q. Each step minimises a bound that is tight at the labels so far,
    for all queries at once:

        y_q ∝ exp(−a_q + λ b_q),   a_qk = d(z_q, m_k),   b_q = Σ_p w_qp y_p,   b = 0 at first

    Prototypes and features are those of "Prototype Rectification" (:class:`BDCSPN`), as the paper
    takes them over, or the means of the support where ``rectify`` is false.

    Ziko, Dolz, Granger, Ben Ayed, "Laplacian Regularized Few-Shot Learning", ICML 2020, sections
    2.2 to 2.4, equations 1 to 9. What differs: features are of length one and not centred by the
    mean of the training classes, all steps are taken, and a query is no neighbour of itself.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features`` where
            ``classes`` is given.
        classes: the number of training classes; none for an encoder that has learned already.
        smoothness: λ; the paper finds it by meta-validation between 0.1 and 1.5.
        neighbors: k; the paper's 3.
        steps: bound updates, of which the paper takes 20 at most.
        rectify: mend the prototypes with the queries.
        confident: queries that join a prototype at most, where it is mended.
        sharpness: of their weights there.
    """

    paper = "Ziko, Dolz, Granger, Ben Ayed, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        smoothness: float = 0.7,
        neighbors: int = 3,
        steps: int = 20,
        rectify: bool = True,
        confident: int = 8,
        sharpness: float = 10.0,
    ) -> None:
        super().__init__(encoder, classes)
        if not smoothness >= 0:
            raise ValueError(
                f"LaplacianShot's smoothness is {smoothness}; it must not be negative."
            )
        if neighbors < 0:
            raise ValueError(f"LaplacianShot's neighbors is {neighbors}; it must be 0 or more.")
        check_steps("LaplacianShot", steps)
        check_rectification("LaplacianShot", confident, sharpness)
        self.smoothness = smoothness
        self.neighbors = neighbors
        self.steps = steps
        self.rectify = rectify
        self.confident = confident
        self.sharpness = sharpness

    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        if self.rectify:
            support, queries = aligned(support, queries)
            prototypes = rectified(support, members, queries, self.confident, self.sharpness)
        else:
            support, queries = F.normalize(support, dim=-1), F.normalize(queries, dim=-1)
            prototypes = weighted_means(members, support)
        near = similarity(queries, prototypes, "euclidean")  # −a
        affinity = nearest_neighbors(queries, self.neighbors)
        logits = near
        for _ in range(self.steps):
            logits = near + self.smoothness * (affinity @ logits.softmax(-1))
        return logits


def nearest_neighbors(features: Tensor, count: int) -> Tensor:
    """The w ``[T, Q, Q]`` of ``[T, Q, D]``: 1 in row q for the ``count`` others nearest to q.

    There may be fewer others than ``count``.
    """
    near = similarity(features, features, "euclidean")
    near.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    nearest = near.topk(min(count, features.shape[1] - 1), dim=-1).indices
    return torch.zeros_like(near).scatter(2, nearest, 1.0)
