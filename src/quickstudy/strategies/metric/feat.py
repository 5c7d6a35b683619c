"""Few-shot embedding adaptation with a transformer (Ye, Hu, Zhan, Sha, 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import class_means, similarity, task_loss
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import EmbeddingStrategy, LossAndLogits, Theta


class FEAT(EmbeddingStrategy):
    """A transformer adapts the prototypes of a task to each other before queries are compared.

        c_k = mean of f(x_i; φ) over the support of class k
        {ψ_1, .., ψ_K} = T({c_1, .., c_K}),   p(y = k | x) ∝ exp(−|f(x; φ) − ψ_k|² / τ)

    where T, a transformer, maps sets to sets: self-attention, a residual connection and layer
    normalisation. In training a contrastive term is added: T also adapts the set of all instances
    of each class, support and query, which must then lie nearest to its own class's centre:

        L = −log p(y | x) + λ · mean of −log q(y_i | T_i),   q(y = k | T_i) ∝ exp(−|T_i − m_k|² / τ)

    with T_i the adapted instance and m_k the mean of the adapted instances of class k.

    Ye, Hu, Zhan, Sha, "Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions", CVPR
    2020, section 4. The paper starts from an encoder that learned by ordinary classification
    (``start_from``); learning from the start works too.

    The contrastive term follows the paper's equation. The authors' program instead compares the
    centres m_k with the instances before T, f(x_i; φ), and divides by a second temperature; here
    both terms share τ.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        heads: number of attention heads, each as wide as the features; 1 in the paper.
        temperature: τ; the paper's 64 by default.
        contrast: λ, the weight of the contrastive term; 0 leaves it out.
        dropout: the share of T's update that is dropped in training.
        normalized: whether T ends in a layer normalisation, as in the paper. Without it T begins as
            the identity, so an encoder trained by distances (``start_from`` a run of
            :class:`PrototypicalNetwork`) keeps what it has learned.
    """

    paper = "Ye, Hu, Zhan, Sha, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        heads: int = 1,
        temperature: float = 64.0,
        contrast: float = 0.1,
        dropout: float = 0.5,
        normalized: bool = True,
    ) -> None:
        super().__init__(encoder)
        check_positive("FEAT", heads=heads, temperature=temperature)
        if contrast < 0 or not 0 <= dropout < 1:
            raise InputError(
                f"FEAT's contrast is {contrast} and its dropout {dropout}; the first must be 0 or "
                "more, the second from 0 to below 1."
            )
        self.heads = heads
        self.temperature = temperature
        self.contrast = contrast
        self.dropout = dropout
        self.normalized = normalized
        self.transformer = SetTransformer(feature_size(encoder), heads, dropout, normalized)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        means = class_means(support.inputs, support.targets, ways)
        return {"prototypes": self.transformer(means)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return similarity(features, theta["prototypes"], "euclidean") / self.temperature

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        features = self.embed(episode, {}) if features is None else features
        entropy, logits = super().loss(episode, features)
        if not self.contrast:
            return entropy, logits
        targets = torch.cat([episode.support.targets, episode.query.targets], dim=1)
        contrast = self.contrastive_loss(features, targets, episode.ways)
        return entropy + self.contrast * contrast, logits

    def contrastive_loss(self, features: Tensor, targets: Tensor, ways: int) -> Tensor:
        """Of instances ``[T, M, D]`` of known classes ``[T, M]``, each class a set of its own."""
        adapted = self.transformer(features, targets[:, :, None] == targets[:, None, :])
        centres = class_means(adapted, targets, ways)
        return task_loss(similarity(adapted, centres, "euclidean") / self.temperature, targets)


class SetTransformer(nn.Module):
    """One layer of self-attention: x_i → N(x_i + dropout(W Σ_j a_ij V x_j)).

    Args:
        features: D.
        heads: each with projections from D to D; W merges them.
        dropout: of the update.
        normalized: whether N is a layer normalisation; else it is left out, and W begins at 0.
    """

    def __init__(self, features: int, heads: int, dropout: float, normalized: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(features, 3 * heads * features, bias=False)
        self.merge = nn.Linear(heads * features, features)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(features) if normalized else nn.Identity()
        # Each projection is a layer of its own, whatever shares its matrix.
        for weight in self.projections.weight.data.chunk(3 * heads):
            nn.init.xavier_normal_(weight)
        if not normalized:
            nn.init.zeros_(self.merge.weight)
            nn.init.zeros_(self.merge.bias)

    def forward(self, sets: Tensor, together: Tensor | None = None) -> Tensor:
        """Adapts sets ``[T, M, D]``.

        Args:
            sets: M members each.
            together: ``[T, M, M]`` bool: which members see each other; by default all.
        """
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.projections(sets).chunk(3, dim=-1)
        )
        mask = None if together is None else together[:, None]
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        update = self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        adapted: Tensor = self.norm(sets + update)
        return adapted
