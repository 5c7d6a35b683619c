"""Rows of vectors, of subwords or of frames of sound, to vectors that know of their neighbours.

Each layer maps vectors ``[B, L, width]`` to others of the same shape, given which places of the
rows are part of the text or sound, ``[B, L, 1]``. What stands at the others changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.normalization import LayerNorm
from quickstudy.errors import InputError


class ConvolutionalLayer(nn.Module):
    """x + GELU(convolution(normalise(x))) along the row.

    Args:
        width: length of the vectors.
        kernel: how many neighbouring places are looked at; odd.
        dropout: the share of numbers left out in training.
    """

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise InputError(f"The kernel is {kernel}; it must be odd, to have a middle.")
        self.norm = LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        # Zeros behind the text, as there are before it and where the row ends.
        normal = self.norm(x) * present
        update: Tensor = self.dropout(F.gelu(self.convolution(normal.mT)).mT)
        return x + update * present


class RecurrentLayer(nn.Module):
    """x + the states of two gated recurrent units, one from each end of the text.

        r, z = σ(W x + U h),   n = tanh(W' x + r ∘ (U' h + b)),   h ← (1 − z) ∘ n + z ∘ h

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation", EMNLP 2014. The same as ``nn.GRU`` on packed rows, but written in operations that
    can be differentiated twice on every device and run under ``torch.func.vmap``.

    Args:
        width: length of the vectors; even, because each direction gives half.
        dropout: the share of numbers left out in training.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        if width % 2:
            raise InputError(
                f"The width {width} of a recurrent body must be even: each direction gives half."
            )
        size = width // 2
        bound = size**-0.5
        self.norm = LayerNorm(width)
        self.reading = nn.Linear(width, 2 * 3 * size)
        self.weight = nn.Parameter(torch.empty(2, size, 3 * size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, 1, 3 * size).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        update: Tensor = self.dropout(self.states(self.norm(x), present))
        return x + update * present

    def states(self, x: Tensor, present: Tensor) -> Tensor:
        """The states ``[B, L, width]`` at every place, forwards then backwards."""
        ahead, back = self.reading(x).chunk(2, dim=-1)
        given = torch.stack([ahead, back.flip(1)])  # [2, B, L, 3 * size]
        reads = torch.stack([present, present.flip(1)])
        state = given.new_zeros(2, x.shape[0], self.weight.shape[1])
        states = []
        for new, read in zip(given.unbind(2), reads.unbind(2), strict=True):
            own = torch.baddbmm(self.bias, state, self.weight)
            size = state.shape[-1]
            gates = (new[..., : 2 * size] + own[..., : 2 * size]).sigmoid()
            reset, keep = gates.chunk(2, dim=-1)
            candidate = torch.tanh(new[..., 2 * size :] + reset * own[..., 2 * size :])
            state = torch.where(read, candidate + keep * (state - candidate), state)
            states.append(state)
        ahead, back = torch.stack(states, dim=2)
        return torch.cat([ahead, back.flip(1)], dim=-1)


class AttentionLayer(nn.Module):
    """A transformer layer that normalises first: attention among a text's subwords, then an MLP.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017. Its softmax is written out, as
    torch's fused attention has no second derivative.

    Args:
        width: length of the vectors; a multiple of ``heads``.
        heads: attentions side by side.
        dropout: the share of numbers left out in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(
                f"The width {width} of an attention body must be a multiple of its {heads} heads."
            )
        self.heads = heads
        self.attention_norm = LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        update: Tensor = self.merge(self.attended(self.attention_norm(x), present))
        x = x + self.dropout(update) * present
        update = self.dropout(self.mlp(x))
        return x + update * present

    def attended(self, x: Tensor, present: Tensor) -> Tensor:
        """Attention of each position to the positions that hold a subword: ``[B, L, width]``."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attention(x).chunk(3, dim=-1)
        )
        scores = query @ key.mT * query.shape[-1] ** -0.5  # [B, heads, L, L]
        lowest = torch.finfo(scores.dtype).min  # not −∞, which of a text without subwords makes NaN
        shares = scores.masked_fill(~present.mT[:, None], lowest).softmax(-1)
        attended: Tensor = shares.to(value.dtype) @ value
        return attended.transpose(1, 2).flatten(2)


def mean_and_maximum(vectors: Tensor, present: Tensor) -> Tensor:
    """Mean and maximum over the present positions, concatenated: ``[B, 2 D]``; zeros without any.

    Args:
        vectors: ``[B, L, D]``, zeros where nothing is present.
        present: bool ``[B, L]``.
    """
    present = present[..., None]
    mean = vectors.sum(1) / present.sum(1).clamp(min=1)
    lowest = torch.finfo(vectors.dtype).min
    highest = vectors.masked_fill(~present, lowest).amax(1)
    return torch.cat([mean, torch.where(present.any(1), highest, 0.0)], dim=-1)
