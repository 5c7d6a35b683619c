"""Matching networks (Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import in_full_precision, similarity
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

Context = Literal["none", "query", "full"]


class MatchingNetwork(EmbeddingStrategy):
    """A query attends to the support examples and averages their labels by attention weight.

        a(x, x_i) = softmax over i of s cos(f(x), g(x_i)),   p(y = k | x) = Σ a(x, x_i) 1[y_i = k]

    Logits are the logarithms of p. Both embeddings begin with the encoder's f'. Full context
    embeddings then let them depend on the whole support S: g reads it with a bidirectional LSTM,

        g(x_i, S) = →h_i + ←h_i + f'(x_i),   →h_i, →c_i = LSTM(f'(x_i), →h_{i−1}, →c_{i−1})

    and f(x, S) = h_K attends to it K times, from h_0 = c_0 = 0:

        ĥ_k, c_k = LSTM(f'(x), [h_{k−1}, r_{k−1}], c_{k−1}),   h_k = ĥ_k + f'(x)
        r_{k−1} = Σ softmax over i of (h_{k−1}ᵀ g(x_i)) g(x_i)

    Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot Learning",
    NeurIPS 2016, equation 1, section 2.1.1, equations 3 to 6 of appendix A. The paper has no factor
    s, and does not say in which order the LSTM reads the support, which is a set. Here a fixed
    projection of f'(x_i) sets the order, so that predictions do not depend on how examples are
    listed (unless several have exactly the same features).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features`` where
            there is a context.
        context: "none" (f = g = f'), "query" (f depends on the support) or "full" (both do).
        reads: K, how often a query attends to the support.
        scale: s. The paper's 1 keeps attention nearly even; 10 learns faster.
    """

    paper = "Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016"

    def __init__(
        self,
        encoder: nn.Module,
        context: Context = "none",
        reads: int = 5,
        scale: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        if context not in get_args(Context):
            raise InputError(f"The context {context!r} is unknown; choose none, query or full.")
        if reads < 1:
            raise InputError(
                f"A query was to read the support {reads} times; ask for at least 1, or for "
                'context="none".'
            )
        if not scale > 0:
            raise InputError(
                f"The scale is {scale}, and the nearest example would not get the most attention; "
                "give more than 0, such as the paper's 1."
            )
        self.context = context
        self.reads = reads
        self.scale = scale
        size = feature_size(encoder) if context != "none" else 0
        self.query_lstm = nn.LSTMCell(2 * size, size) if context != "none" else None
        self.support_lstm = (
            nn.LSTM(size, size, batch_first=True, bidirectional=True) if context == "full" else None
        )

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        features = support.inputs
        if self.support_lstm is not None:
            features = embedded_support(self.support_lstm, features)
        return {"features": features, "members": F.one_hot(support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        if self.query_lstm is not None:
            features = embedded_queries(self.query_lstm, features, theta["features"], self.reads)
        cosines = similarity(features, theta["features"], "cosine")  # [T, Q, N]
        attention = (self.scale * cosines).log_softmax(-1)
        member = theta["members"].bool()[:, None]  # [T, 1, N, ways]
        by_class = attention[..., None].where(member, -torch.inf)
        return by_class.logsumexp(2)


@in_full_precision
def embedded_support(lstm: nn.LSTM, features: Tensor) -> Tensor:
    """g(x_i, S) of f'(x_i), both ``[T, N, D]``."""
    # Numbers that encoders do not make equal for several examples, as norms or sums can be.
    projection = torch.linspace(0, 1, features.shape[-1]).to(features)
    order = (features @ projection).argsort(1)[..., None].expand_as(features)
    read, _ = lstm(features.gather(1, order))
    forth, back = read.chunk(2, dim=-1)
    return features + torch.zeros_like(features).scatter(1, order, forth + back)


@in_full_precision
def embedded_queries(cell: nn.LSTMCell, queries: Tensor, support: Tensor, reads: int) -> Tensor:
    """f(x, S) ``[T, Q, D]`` of f'(x) ``[T, Q, D]`` and g(x_i, S) ``[T, N, D]``.

    The cell's gates are linear in f'(x), h and r together, so r may come in beside f'(x).
    """
    hidden = torch.zeros_like(queries)
    memory = torch.zeros_like(queries).flatten(0, 1)
    for _ in range(reads):
        attention = (hidden @ support.transpose(1, 2)).softmax(-1)
        read = torch.cat([queries, attention @ support], dim=-1)
        output, memory = cell(read.flatten(0, 1), (hidden.flatten(0, 1), memory))
        hidden = output.view_as(queries) + queries
    return hidden
