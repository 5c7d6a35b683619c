"""Networks that read a labelled support set and write a code for each class.

Each network reads one token an example and returns one token an example; what it is told of the
labels is only which examples share a class, so renaming classes renames the codes and nothing else.
Recurrent and convolutional networks read a sequence: they get the examples in an order computed
from the features alone (:func:`reading_order`), so the order of the support does not matter either.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.functional import class_means, in_full_precision

StrategyNetwork = Literal["cnn", "rnn", "transformer"]


@in_full_precision
def ranks(vectors: Tensor) -> Tensor:
    """The place of each vector among those beside it, whatever the order in which they are listed.

    They are sorted by a fixed projection. Its weights, cosines of 1, 2, 3, .., are of no scale and
    of no sum that a normalised feature could have in common for all inputs.

    Args:
        vectors: ``[..., M, D]``.

    Returns:
        ``[..., M]`` int64 in 0..M-1.
    """
    vectors = vectors.detach()
    entries = torch.arange(1, vectors.shape[-1] + 1, device=vectors.device)
    projection = torch.cos(entries.to(vectors.dtype))
    return (vectors @ projection).argsort(-1).argsort(-1)


def reading_order(features: Tensor, targets: Tensor, ways: int) -> Tensor:
    """An order of the support that depends on what the examples are, not on how they were listed.

    Classes are sorted by their mean feature (:func:`ranks`), and examples inside their class
    likewise.

    Args:
        features: ``[T, N, D]``.
        targets: ``[T, N]`` int64.
        ways: the number of classes.

    Returns:
        ``[T, N]`` int64: the example to read first, second, and so on.
    """
    class_rank = ranks(class_means(features, targets, ways))
    return (class_rank.gather(1, targets) * targets.shape[1] + ranks(features)).argsort(-1)


class SetNetwork(nn.Module):
    """Reads features and labels of a support; writes a code for each class and one for the task.

    Args:
        kind: "cnn" (residual temporal convolutions), "rnn" (a bidirectional LSTM) or "transformer"
            (self-attention).
        features: D, the length of an example's feature.
        width: the length of the codes.
        layers: how many layers.
    """

    def __init__(self, kind: StrategyNetwork, features: int, width: int, layers: int) -> None:
        super().__init__()
        self.kind = kind
        self.tokens = nn.Linear(2 * features, width)
        self.layers: nn.ModuleList
        if kind == "transformer":
            self.layers = nn.ModuleList(ClassAwareAttention(width) for _ in range(layers))
        elif kind == "cnn":
            self.layers = nn.ModuleList(
                ResidualConvolution(width, dilation=2**layer) for layer in range(layers)
            )
        elif kind == "rnn":
            self.layers = nn.ModuleList(ResidualRecurrence(width) for _ in range(layers))
        else:
            raise InputError(
                f"The strategy network {kind!r} is unknown; choose cnn, rnn or transformer."
            )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """Class codes ``[T, ways, width]`` and task codes ``[T, width]``.

        Args:
            features: ``[T, N, D]``.
            targets: ``[T, N]`` int64 in 0..ways-1.
            ways: the number of classes.
        """
        tokens, targets = self.read(features, targets, ways)
        classes = class_means(tokens, targets, ways)
        return classes, classes.mean(1)

    def read(self, features: Tensor, targets: Tensor, ways: int) -> tuple[Tensor, Tensor]:
        """A token for each example ``[T, N, width]``, and targets ``[T, N]`` in the same order.

        That is the order in which the examples were read. The arguments are those above.
        """
        if self.kind != "transformer":
            order = reading_order(features, targets, ways)
            targets = targets.gather(1, order)
            features = features.gather(1, order[:, :, None].expand_as(features))
        means = class_means(features, targets, ways)
        of_own_class = means.gather(1, targets[:, :, None].expand_as(features))
        tokens = self.tokens(torch.cat([features, of_own_class], dim=-1))
        same_class = targets[:, :, None] == targets[:, None, :]
        for layer in self.layers:
            tokens = layer(tokens, same_class)
        return self.norm(tokens), targets


class ClassAwareAttention(nn.Module):
    """A pre-norm transformer layer whose heads weigh examples of one's own class differently."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"The width {width} of a transformer must be a multiple of its {heads} heads."
            )
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.own_class_bias = nn.Parameter(torch.zeros(heads))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, same_class: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attention(self.attention_norm(tokens)).chunk(3, dim=-1)
        )
        bias = same_class[:, None].to(tokens.dtype) * self.own_class_bias[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        tokens = tokens + self.merge(attended.transpose(1, 2).flatten(2))
        update: Tensor = self.mlp(tokens)
        return tokens + update


class ResidualConvolution(nn.Module):
    """A dilated convolution along the reading order, both ways."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)

    def forward(self, tokens: Tensor, same_class: Tensor) -> Tensor:
        # Gated linear unit, as in temporal convolutional networks.
        update = F.glu(self.convolution(self.norm(tokens).transpose(1, 2)), dim=1)
        return tokens + update.transpose(1, 2)


class ResidualRecurrence(nn.Module):
    """A bidirectional LSTM along the reading order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.merge = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor, same_class: Tensor) -> Tensor:
        states, _ = self.lstm(self.norm(tokens))
        merged: Tensor = self.merge(states)
        return tokens + merged
