"""Feature map reconstruction networks (Wertheimer, Tang, Hariharan, 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_maps
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive, ridge, solve_positive
from quickstudy.strategies.strategy import EmbeddingStrategy, LossAndLogits, Theta


class FRN(EmbeddingStrategy):
    """A query belongs to the class from whose feature maps its own map is best reconstructed.

        X_c = the places of all maps of class c [k r, d],   Q = those of the query's map [r, d]
        W = argmin |Q − W X_c|² + λ |W|² = Q X_cᵀ (X_c X_cᵀ + λ I)⁻¹
        Q_c = ρ W X_c,   p(y = c | x) ∝ exp(−γ |Q − Q_c|² / r)
        λ = (k r / d) e^α,   ρ = e^β;   α, β and γ are learned

    A map of height times width r and d channels is r places, rows of d numbers. Where k r ≥ d the
    same is computed as Q_c = ρ Q (X_cᵀ X_c + λ I)⁻¹ X_cᵀ X_c. In training a term is added that
    turns the supports of different classes away from each other:

        L_aux = w Σ_{i ≠ j} |X̂_i X̂_jᵀ|²,   rows of X̂ of unit length

    Wertheimer, Tang, Hariharan, "Few-Shot Classification with Feature Map Reconstruction Networks",
    CVPR 2021, section 3. Here the sum in L_aux is divided by the squared number of rows, or it
    would grow with shots and maps until nothing else counted.

    What differs from the authors' program: for L_aux it divides all rows of the support by their
    common (Frobenius) norm instead of each row by its own length, which contains the same division
    by the squared number of rows, and counts each pair of classes once. Where all rows are equally
    long, L_aux is twice the program's, and ``auxiliary_weight=0.015`` gives the program's 0.03. The
    program also adds 1e-6 to λ.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``. Its maps before that are
            reconstructed if it has any (see ``feature_maps``), else the vectors as maps of one
            place.
        auxiliary_weight: w; 0.03 in the paper, for half the sum (see above). 0 leaves the term out.
        scale: multiplies the maps. The authors use 1 for four blocks of convolution, and 1 / √640
            for the 640 channels of ResNet12, so that distances begin small.
    """

    paper = "Wertheimer, Tang, Hariharan, 2021"

    def __init__(
        self, encoder: nn.Module, auxiliary_weight: float = 0.03, scale: float = 1.0
    ) -> None:
        super().__init__(encoder)
        check_positive("FRN", scale=scale)
        if auxiliary_weight < 0:
            raise InputError(f"FRN's auxiliary_weight is {auxiliary_weight}; it must be 0 or more.")
        self.auxiliary_weight = auxiliary_weight
        self.scale = scale
        self.alpha = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(()))
        self.gamma = nn.Parameter(torch.ones(()))

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        """Places ``[T, N, r, d]`` of the maps of inputs ``[T, N, *shape]``."""
        maps = feature_maps(self.encoder, inputs.flatten(0, 1))
        places = maps.flatten(2).transpose(1, 2)
        return self.scale * places.reshape(*inputs.shape[:2], *places.shape[1:])

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        rows, counts = rows_of_classes(support.inputs, support.targets, ways)
        places, channels = support.inputs.shape[2:]
        shots = counts.clamp(min=1).to(self.alpha.dtype)
        penalty = shots * (places / channels) * self.alpha.exp()
        if rows.shape[2] >= channels:  # M with Q_c = ρ Q M: X_c's rows, made of themselves
            return {"map": ridge(rows, rows, penalty)}
        return {"rows": rows, "weights": weights_of_rows(rows, penalty)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        chain = [theta["map"]] if "map" in theta else [theta["rows"].mT, theta["weights"]]
        return -self.gamma * reconstruction_errors(features, self.beta.exp(), *chain)

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        features = self.embed(episode, {}) if features is None else features
        support = episode.support.targets
        likeness = class_likeness(features[:, : support.shape[1]], support)
        entropy, logits = super().loss(episode, features)
        return entropy + self.auxiliary_weight * likeness, logits


def rows_of_classes(places: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    """The rows of each class together, with rows of zeros where it has fewer examples than others.

    A row of zeros changes no reconstruction.

    Args:
        places: ``[T, N, r, d]``.
        targets: ``[T, N]`` int64.
        ways: the number of classes.

    Returns:
        ``[T, ways, k r, d]`` with k the most examples of a class, and how many each has,
        ``[T, ways]``.
    """
    members = F.one_hot(targets, ways)
    counts = members.sum(1)
    most = int(counts.max())
    before = members.cumsum(1).gather(2, targets[..., None])[..., 0] - 1  # of the same class
    slot = (targets * most + before)[..., None, None].expand_as(places)
    empty = places.new_zeros(len(places), ways * most, *places.shape[2:])
    rows = empty.scatter(1, slot, places)
    return rows.view(len(places), ways, -1, places.shape[3]), counts


@in_full_precision
def weights_of_rows(rows: Tensor, penalty: Tensor) -> Tensor:
    """(X Xᵀ + λ I)⁻¹ X of rows X ``[T, ways, n, d]``, λ ``[T, ways]``."""
    diagonal = penalty[..., None].expand(rows.shape[:-1]).to(rows.dtype)
    return solve_positive(rows @ rows.mT + torch.diag_embed(diagonal), rows)


@in_full_precision
def reconstruction_errors(queries: Tensor, rho: Tensor, *chain: Tensor) -> Tensor:
    """|Q − ρ Q A B ..|² / r of queries ``[T, Q, r, d]``, the product of a chain: ``[T, Q, ways]``.

    Matrices of the chain are ``[T, ways, ., .]``; the first has d rows, the last d columns.
    """
    each, places = queries.shape[1:3]
    rows = queries.flatten(1, 2)[:, None]  # [T, 1, Q r, d]
    made = rows
    for matrix in chain:
        made = made @ matrix
    squares = (rows - rho * made).square().sum(-1)  # [T, ways, Q r]
    return squares.view(*squares.shape[:2], each, places).mean(3).transpose(1, 2)


@in_full_precision
def class_likeness(places: Tensor, targets: Tensor) -> Tensor:
    """Squared cosines between rows of different classes: their sum, over the rows squared.

    Args:
        places: ``[T, N, r, d]``.
        targets: ``[T, N]`` int64.
    """
    rows = F.normalize(places.flatten(1, 2), dim=-1)
    of_class = targets.repeat_interleave(places.shape[2], 1)
    different = of_class[:, :, None] != of_class[:, None, :]
    return ((rows @ rows.mT).square() * different).mean()
