"""Prototype rectification, BD-CSPN (Liu, Song, Qin, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.transductive_strategy import (
    TransductiveStrategy,
    weighted_means,
)
from quickstudy.strategies.functional import similarity
from quickstudy.strategies.solvers import check_positive


class BDCSPN(TransductiveStrategy):
    """Prototypes are corrected by confident queries, after support and queries were aligned.

        x̄ = f(x) / ‖f(x)‖,   x̄_q ← x̄_q + ξ,   ξ = mean of x̄ over the support − mean over the queries
        c_k = mean of x̄ over the support of class k,   p(y = k | x) ∝ exp(cos(x̄, c_k))
        c'_k = Σ_i w_ik x̄_i,   w_ik ∝ exp(ε cos(x̄_i, c_k))

    where the last sum is over the support of class k and the Z queries of the largest p among those
    whose likeliest class it is. Queries are then classified by τ cos(x̄, c'_k). The shift ξ is
    against what sets support and queries apart (the paper's cross-class bias), c' against what few
    examples miss of their class (its intra-class bias).

    Liu, Song, Qin, "Prototype Rectification for Few-Shot Learning", ECCV 2020, section 3. The
    paper's encoder learns the training classes by cosines; here it learns them as others do.

    Args:
        confident: Z, queries that join a class at most; the paper's 8.
        sharpness: ε; the paper's 10.
        scale: τ, of the probabilities that come out: it changes neither who joins nor who wins.
    """

    paper = "Liu, Song, Qin, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        confident: int = 8,
        sharpness: float = 10.0,
        scale: float = 10.0,
    ) -> None:
        super().__init__(encoder, classes)
        check_rectification("BDCSPN", confident, sharpness)
        check_positive("BDCSPN", scale=scale)
        self.confident = confident
        self.sharpness = sharpness
        self.scale = scale

    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        support, queries = aligned(support, queries)
        prototypes = rectified(support, members, queries, self.confident, self.sharpness)
        return self.scale * similarity(queries, prototypes, "cosine")


def check_rectification(strategy: str, confident: int, sharpness: float) -> None:
    """Refuses a Z or an ε that makes no sense."""
    if confident < 0:
        raise InputError(f"{strategy}'s confident is {confident}; it must be 0 or more.")
    check_positive(strategy, sharpness=sharpness)


def aligned(support: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets ``[T, n, D]`` with features of length one, the queries then shifted by ξ."""
    support, queries = F.normalize(support, dim=-1), F.normalize(queries, dim=-1)
    return support, queries + support.mean(1, keepdim=True) - queries.mean(1, keepdim=True)


def rectified(
    support: Tensor, members: Tensor, queries: Tensor, confident: int, sharpness: float
) -> Tensor:
    """The prototypes c' of aligned sets.

    Args:
        support: ``[T, N, D]``.
        members: one-hot classes of the support, ``[T, N, ways]``.
        queries: ``[T, Q, D]``.
        confident: Z.
        sharpness: ε.

    Returns:
        ``[T, ways, D]``.
    """
    everyone = torch.cat([support, queries], dim=1)
    cosines = similarity(everyone, weighted_means(members, support), "cosine")
    joined = torch.cat([members, surest(cosines[:, support.shape[1] :], confident)], dim=1)
    nobody = torch.finfo(cosines.dtype).min  # not −∞, of which a class of none would make nan
    weights = torch.where(joined > 0, sharpness * cosines, nobody).softmax(1)
    return weights.mT @ everyone


def surest(cosines: Tensor, confident: int) -> Tensor:
    """One-hot ``[T, Q, ways]``: the queries that are taken for examples of their likeliest class.

    Args:
        cosines: of queries and prototypes, ``[T, Q, ways]``.
        confident: queries that a class takes at most.
    """
    likeliest = F.one_hot(cosines.argmax(-1), cosines.shape[-1]).to(cosines)
    # Those of other classes are behind all of this one, and fall to zero where they are chosen.
    ranked = (cosines.softmax(-1) * likeliest).topk(min(confident, cosines.shape[1]), dim=1)
    return torch.zeros_like(likeliest).scatter(1, ranked.indices, 1.0) * likeliest
