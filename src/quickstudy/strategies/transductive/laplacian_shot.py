"""LaplacianShot (Ziko, Dolz, Granger, Ben Ayed, 2020)."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.pretrained import CentredStrategy
from quickstudy.strategies.bases.transductive_strategy import (
    TransductiveStrategy,
    check_steps,
    weighted_means,
)
from quickstudy.strategies.functional import similarity
from quickstudy.strategies.transductive.bd_cspn import aligned, check_rectification, rectified


class LaplacianShot(TransductiveStrategy, CentredStrategy):
    """A query gets the label of a near prototype on which its nearest neighbours agree.

        min over y of  Σ_qk y_qk d(z_q, m_k) + λ/4 Σ_qp w_qp ‖y_q − y_p‖² + Σ_qk y_qk log y_qk

    for labels y_q on the simplex, with d the squared distance and w_qp = 1 where the query p is one
    of the k nearest other queries of q. Each step minimises a bound that is tight at the labels so
    far, for all queries at once:

        y_q ∝ exp(−a_q + λ b_q),   a_qk = d(z_q, m_k),   b_q = Σ_p w_qp y_p,   b = 0 at first

    Features are centred by the mean f̄ of the training classes and scaled to length one. Queries are
    then shifted so that their mean is the support's, and each prototype is rectified by all
    examples, support and queries alike, that it is the nearest to:

        z = (f(x) − f̄) / ‖f(x) − f̄‖,   c_k = mean of z over the support of class k
        m_k = mean of s_ik z_i over all i whose largest s_ij is s_ik,   s_ij ∝ exp(ε cos(z_i, c_j))

    with Σ_j s_ij = 1. Where ``rectify`` is false, m_k = c_k and queries are not shifted.

    Ziko, Dolz, Granger, Ben Ayed, "Laplacian Regularized Few-Shot Learning", ICML 2020, sections
    2.2 to 2.4, equations 1 to 9. Rectification is that of the authors' program. (The paper refers
    to :class:`BDCSPN`, whose weights are normalised over the examples of a class instead.) What
    differs from the program: f̄ is a running mean over the training batches, as in
    :class:`SimpleShot`, not the mean after training. λ is an argument; the authors choose it on
    validation classes, for each number of shots. All steps are taken; the authors stop when the
    objective changes by less than a millionth. A class that is nearest to no example keeps c_k.
    Accuracy is that of the predicted classes; the authors first match predicted groups with
    classes.

    Without f̄ (an encoder that has learned already and a ``running_mean`` of zeros), cosines lie so
    close together that this rectification does more harm than good, and a warning says so. Then
    write the mean into ``running_mean``, or use ``confident=8`` or ``rectify=False``.

    Args:
        smoothness: λ; the paper finds it by meta-validation between 0.1 and 1.5.
        neighbors: k, the number of other queries; the authors' 3 count the query itself.
        steps: bound updates, of which the paper takes 20 at most.
        rectify: whether queries are shifted and prototypes rectified.
        confident: None to rectify as the authors' program does; a number to rectify as
            :class:`BDCSPN` does, by at most so many queries per class.
        sharpness: ε; 10 in the authors' program.
    """

    paper = "Ziko, Dolz, Granger, Ben Ayed, 2020"
    added_buffers = ("running_mean", "batches")

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        smoothness: float = 0.7,
        neighbors: int = 2,
        steps: int = 20,
        rectify: bool = True,
        confident: int | None = None,
        sharpness: float = 10.0,
    ) -> None:
        super().__init__(encoder, classes)
        if not smoothness >= 0:
            raise InputError(
                f"LaplacianShot's smoothness is {smoothness}; it must not be negative."
            )
        if neighbors < 0:
            raise InputError(f"LaplacianShot's neighbors is {neighbors}; it must be 0 or more.")
        check_steps("LaplacianShot", steps)
        check_rectification("LaplacianShot", confident or 0, sharpness)
        self.smoothness = smoothness
        self.neighbors = neighbors
        self.steps = steps
        self.rectify = rectify
        self.confident = confident
        self.sharpness = sharpness

    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        if self.rectify and self.confident is None and not self.running_mean.any():
            warnings.warn(
                "LaplacianShot does not know the mean feature of the training classes (its buffer "
                "`running_mean` is zero), and without it its rectification may lower the accuracy. "
                "Write the mean into it, as by strategy.running_mean = features.mean(0), or use "
                "confident=8 or rectify=False.",
                stacklevel=2,
            )
        support, queries = support - self.running_mean, queries - self.running_mean
        if self.rectify:
            support, queries = aligned(support, queries)
            prototypes = self.rectified(support, members, queries)
        else:
            support, queries = F.normalize(support, dim=-1), F.normalize(queries, dim=-1)
            prototypes = weighted_means(members, support)
        near = similarity(queries, prototypes, "euclidean")  # −a
        affinity = nearest_neighbors(queries, self.neighbors)
        logits = near
        for _ in range(self.steps):
            logits = near + self.smoothness * (affinity @ logits.softmax(-1))
        return logits

    def rectified(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        """The prototypes m ``[T, ways, D]`` of aligned sets.

        Args:
            support: ``[T, N, D]``.
            members: one-hot classes of the support, ``[T, N, ways]``.
            queries: ``[T, Q, D]``.
        """
        if self.confident is not None:
            return rectified(support, members, queries, self.confident, self.sharpness)
        means = weighted_means(members, support)
        everyone = torch.cat([support, queries], dim=1)
        shares = (self.sharpness * similarity(everyone, means, "cosine")).softmax(-1)
        nearest = F.one_hot(shares.argmax(-1), shares.shape[-1]).to(shares)
        counts = nearest.sum(1)[..., None]
        better = (nearest * shares).mT @ everyone / counts.clamp(min=1)
        return torch.where(counts > 0, better, means)


def nearest_neighbors(features: Tensor, count: int) -> Tensor:
    """The w ``[T, Q, Q]`` of ``[T, Q, D]``: 1 in row q for the ``count`` others nearest to q.

    There may be fewer others than ``count``.
    """
    near = similarity(features, features, "euclidean")
    near.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    nearest = near.topk(min(count, features.shape[1] - 1), dim=-1).indices
    return torch.zeros_like(near).scatter(2, nearest, 1.0)
