"""A small network for texts, to be meta-trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from quickstudy.encoders.encoder import Encoder
from quickstudy.encoders.normalization import LayerNorm, transformed
from quickstudy.encoders.sequences import (
    AttentionLayer,
    ConvolutionalLayer,
    RecurrentLayer,
    mean_and_maximum,
)
from quickstudy.errors import InputError
from quickstudy.inputs.text import PADDING

Body = Literal["convolutional", "recurrent", "attention", "bag"]


class TextEncoder(Encoder):
    """Embedded subwords through a body of a few layers; of its vectors, the mean and the maximum.

    The padding behind a text and the other texts of a batch change nothing, up to rounding: places
    without a subword are left out, and vectors are normalised one by one.

    Args:
        input_shape: (length,), the subwords that are read of a text, as :class:`TextInputs` has it.
        vocabulary: how many subword numbers there are, as :class:`TextInputs` has it.
        body: "convolutional" (residual convolutions along the text), "recurrent" (bidirectional
            gated recurrent units), "attention" (a transformer encoder) or "bag" (nothing: the
            embedded subwords themselves, in any order).
        width: length of the embeddings and all vectors.
        layers: number of layers of the body; a bag has none.
        kernel: places that a convolution looks at; odd.
        heads: attentions side by side.
        dropout: the share of numbers left out in training, of the embeddings and of each layer.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (64,),
        vocabulary: int = 8192,
        body: Body = "convolutional",
        width: int = 128,
        layers: int = 2,
        kernel: int = 3,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1 or min(input_shape) < 1:
            raise InputError(
                "TextEncoder reads rows of subword numbers [length], but its input_shape is "
                f"{tuple(input_shape)}."
            )
        if min(vocabulary - 1, width, layers) < 1:
            raise InputError(
                f"TextEncoder was asked for {layers} layers of width {width} and a vocabulary of "
                f"{vocabulary}; there must be a layer, a number in each vector, and a subword "
                "beside the padding."
            )
        self.input_shape = tuple(input_shape)
        self.vocabulary = vocabulary
        self.body = body
        self.width = width
        self.layers = layers
        self.kernel = kernel
        self.heads = heads
        self.dropout = dropout
        self.out_features = 2 * width
        self.embedding = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.drop = nn.Dropout(dropout)
        self.positions: nn.Parameter | None = None
        if body == "attention":  # else it would not know the order
            self.positions = nn.Parameter(torch.randn(*input_shape, width) * width**-0.5)
        number = 0 if body == "bag" else layers
        self.blocks = nn.ModuleList(self._layer() for _ in range(number))
        self.norm: nn.Module = nn.Identity()
        if number:
            self.norm = LayerNorm(width)
            # Of length 1, as the embeddings are about: longer ones make distances so large that
            # the softmax of prototypes is certain, and mostly wrong, when training begins.
            nn.init.constant_(self.norm.weight, width**-0.5)

    def _check(self, x: Tensor) -> None:
        """Refuses (ValueError) what is not rows of at most ``length`` integers."""
        if x.is_floating_point() or x.ndim != 2 or x.shape[1] > self.input_shape[0]:
            raise InputError(
                f"TextEncoder reads at most {self.input_shape[0]} subword numbers of each text, as "
                f"TextInputs makes them, but was given {x.dtype} of shape {list(x.shape)}."
            )

    def _layer(self) -> nn.Module:
        if self.body == "convolutional":
            return ConvolutionalLayer(self.width, self.kernel, self.dropout)
        if self.body == "recurrent":
            return RecurrentLayer(self.width, self.dropout)
        if self.body == "attention":
            return AttentionLayer(self.width, self.heads, self.dropout)
        raise InputError(f"The body {self.body!r} is unknown; choose {', '.join(get_args(Body))}.")

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of subword numbers ``[B, length]``, 0 for padding."""
        self._check(x)
        x = without_trailing_padding(x)
        return mean_and_maximum(self.vectors_of_subwords(x), x != PADDING)

    def vectors_of_subwords(self, x: Tensor) -> Tensor:
        """A vector for each subword, ``[B, L, width]``, of ``[B, L]``; zeros for padding."""
        self._check(x)
        present = (x != PADDING)[..., None]
        vectors = nn.functional.embedding(x, self.embedding)
        if self.positions is not None:
            vectors = vectors + self.positions[: x.shape[1]]
        vectors = self.drop(vectors) * present
        for block in self.blocks:
            vectors = block(vectors, present)
        normal: Tensor = self.norm(vectors)
        return normal * present


def without_trailing_padding(x: Tensor) -> Tensor:
    """Rows ``[B, length]`` without the places behind the longest text, at least one.

    Inside the transformations of ``torch.func`` and the compiler, for which shapes may not depend
    on values, they stay as they are.
    """
    if transformed() or torch.compiler.is_compiling() or not x.numel():
        return x
    used = (x != PADDING).any(0).nonzero()
    return x[:, : int(used[-1]) + 1 if len(used) else 1]
