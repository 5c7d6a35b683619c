"""The classifier of Simple CNAPS (Bateni, Goyal, Masrani, Wood, Sigal, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import class_means, in_full_precision, similarity
from quickstudy.strategies.solvers import check_positive, positive_factor
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class SimpleCNAPS(EmbeddingStrategy):
    """Each class is a Gaussian whose covariance is shrunk towards the covariance of the task.

        Q_k = λ_k S_k + (1 − λ_k) S + β I,   λ_k = n_k / (n_k + 1)
        p(y = k | x) ∝ exp(−½ (f(x; φ) − μ_k)ᵀ Q_k⁻¹ (f(x; φ) − μ_k))

    with μ_k, S_k and n_k the mean, the covariance and the number of the support examples of class
    k, and S the covariance of the whole support. A class of one example has S_k = 0.

    Bateni, Goyal, Masrani, Wood, Sigal, "Improved Few-Shot Visual Classification", CVPR 2020,
    section 4. This is the paper's classifier alone: its encoder is a pretrained
    one that is modulated for each task (the FiLM layers of CNAPS), ours is learned with it and is
    the same for every task.

    With fewer examples than numbers in a feature Q_k is never formed: it differs from β I in the
    span of the support only, so that systems of N equations do (the Woodbury identity).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        regularization: β, the squared length that counts as noise; the paper's 1 by default.
    """

    paper = "Bateni, Goyal, Masrani, Wood, Sigal, 2020"

    def __init__(self, encoder: nn.Module, regularization: float = 1.0) -> None:
        super().__init__(encoder)
        check_positive("SimpleCNAPS", regularization=regularization)
        self.regularization = regularization

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        beta, few = self.regularization, support.inputs.shape[1] < support.inputs.shape[2]
        whitening = low_rank_whitening if few else full_whitening
        return {
            "prototypes": class_means(support.inputs, support.targets, ways),
            "whitening": whitening(support.inputs, support.targets, ways, beta),
        }

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        squares = whitened_squares(features, theta["prototypes"], theta["whitening"])
        if theta["whitening"].shape[2] == features.shape[2]:
            return -0.5 * squares
        # The low-rank form: vᵀ Q⁻¹ v = (vᵀ v − |P v|²) / β.
        distances = -similarity(features, theta["prototypes"], "euclidean")
        return -0.5 * (distances - squares) / self.regularization


@in_full_precision
def low_rank_whitening(features: Tensor, targets: Tensor, ways: int, beta: float) -> Tensor:
    """P_k with Q_k⁻¹ = (I − P_kᵀ P_k) / β.

    With the centred support Z ``[N, D]`` and the weights W_k ``[N, N]`` of its examples,

        Q_k = β I + Zᵀ W_k Z,   P_k = C⁻¹ √W_k Z,   C Cᵀ = β I + √W_k Z Zᵀ √W_k.

    W_k = b I + a H, where H takes the examples of class k off their mean and all others to zero; a
    projection, so that √W_k = √b I + (√(a + b) − √b) H.

    Args:
        features: ``[T, N, D]``.
        targets: ``[T, N]`` int64.
        ways: the number of classes.
        beta: β > 0.

    Returns:
        ``[T, ways, N, D]``.
    """
    centred, members, counts, a, b = _parts(features, targets, ways)
    outer = members[..., :, None] * members[..., None, :]
    projection = torch.diag_embed(members) - outer / counts[..., None, None].clamp(min=1)
    eye = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    root = b.sqrt() * eye + ((a + b).sqrt() - b.sqrt()) * projection
    gram = (centred @ centred.mT)[:, None]
    factor = positive_factor(beta * eye + root @ gram @ root)
    solved: Tensor = torch.linalg.solve_triangular(factor, root, upper=False)
    return solved @ centred[:, None]


@in_full_precision
def full_whitening(features: Tensor, targets: Tensor, ways: int, beta: float) -> Tensor:
    """P_k with Q_k⁻¹ = P_kᵀ P_k, ``[T, ways, D, D]``; the arguments are those above."""
    centred, members, _, a, b = _parts(features, targets, ways)
    means = class_means(centred, targets, ways)
    apart = members[..., None] * (centred[:, None] - means[:, :, None])  # [T, ways, N, D]
    eye = torch.eye(features.shape[2], dtype=features.dtype, device=features.device)
    covariance = a * (apart.mT @ apart) + b * (centred.mT @ centred)[:, None] + beta * eye
    factor = positive_factor(covariance)
    inverse: Tensor = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return inverse


def _parts(
    features: Tensor, targets: Tensor, ways: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The centred support ``[T, N, D]``, the members ``[T, ways, N]`` and n_k ``[T, ways]``.

    Then, each ``[T, ways, 1, 1]``, the factors a and b of the products of deviations from the
    class's mean and from that of all: a = λ_k / (n_k − 1), b = (1 − λ_k) / (N − 1).
    """
    centred = features - features.mean(1, keepdim=True)
    members = F.one_hot(targets, ways).to(features.dtype).transpose(1, 2)
    counts = members.sum(2)
    share = counts / (counts + 1)
    a = share / (counts - 1).clamp(min=1)
    b = (1 - share) / max(1, features.shape[1] - 1)
    return centred, members, counts, a[..., None, None], b[..., None, None]


@in_full_precision
def whitened_squares(queries: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """|P_k (x − μ_k)|², ``[T, Q, ways]``, of queries ``[T, Q, D]`` and means ``[T, ways, D]``."""
    tasks, ways, rows, _ = whitening.shape
    of_queries = whitening.flatten(1, 2) @ queries.mT  # [T, ways * rows, Q]
    of_means = whitening @ means[..., None]  # [T, ways, rows, 1]
    apart = of_queries.view(tasks, ways, rows, -1) - of_means
    return apart.square().sum(2).transpose(1, 2)
