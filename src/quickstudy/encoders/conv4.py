"""The field's four-block convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.cpu.folding import folded
from quickstudy.encoders.cpu.layout import channels_last
from quickstudy.encoders.cpu.pooled_block import (
    convolved,
    convolved_and_pooled,
    normalized_and_pooled,
    pays,
)
from quickstudy.encoders.encoder import Encoder, Modulation, image_shape, modulate
from quickstudy.encoders.normalization import (
    Normalization,
    by_its_batch,
    is_plain,
    normalization_layer,
)
from quickstudy.errors import InputError


class Conv4(Encoder):
    """Four blocks of 3x3 convolution, normalisation, ReLU and halving, then flattened.

    Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016 (max-pooling, 64
    channels); Finn et al. 2017 use strides on Omniglot and 32 channels on miniImageNet.

    Args:
        input_shape: (channels, height, width) of an image.
        channels: channels of every block.
        pooling: "max" halves by 2x2 max-pooling, "stride" by convolving with stride 2.
        normalization: "batch", "group" or "none". A trained network uses running averages for
            "batch", so no output depends on another input.
        blocks: how many blocks.
        joined_blocks: of how many blocks, counted from the last, a vector holds the outputs; 2 in
            Bertinetto et al. 2019.

    Example:
        >>> import torch
        >>> from quickstudy.encoders import Conv4
        >>> encoder = Conv4((3, 32, 32), channels=8)
        >>> encoder(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 32])
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        channels: int = 64,
        pooling: Literal["max", "stride"] = "max",
        normalization: Normalization = "batch",
        blocks: int = 4,
        joined_blocks: int = 1,
    ) -> None:
        super().__init__()
        in_channels, height, width = image_shape(input_shape, "Conv4")
        if pooling not in ("max", "stride"):
            raise InputError(f"The pooling {pooling!r} is unknown; choose max or stride.")
        if channels < 1 or blocks < 1:
            raise InputError(
                f"Conv4 was asked for {blocks} blocks of {channels} channels; both must be at "
                "least 1."
            )
        if not 1 <= joined_blocks <= blocks:
            raise InputError(
                f"The outputs of {joined_blocks} blocks were to be joined, of {blocks}; join at "
                "least 1 and at most all."
            )
        self.input_shape = tuple(input_shape)
        self.channels = channels
        self.pooling = pooling
        self.normalization = normalization
        self.blocks = blocks
        self.joined_blocks = joined_blocks
        sizes = []
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        stride = 2 if pooling == "stride" else 1
        for block in range(blocks):
            wide_in = channels if block else in_channels
            self.convolutions.append(
                # A bias before batch normalisation would be subtracted again.
                nn.Conv2d(wide_in, channels, 3, stride, 1, bias=normalization != "batch")
            )
            self.norms.append(normalization_layer(normalization, channels))
            round_up = 1 if pooling == "stride" else 0
            height, width = (height + round_up) // 2, (width + round_up) // 2
            sizes.append(channels * height * width)
        if not height * width:
            raise InputError(
                f"Images of {tuple(input_shape)} are too small to be halved {blocks} times; use "
                "larger images or fewer blocks."
            )
        self.map_shape = (channels, height, width)
        self.out_features = sum(sizes[-joined_blocks:])
        self.modulated_channels = (channels,) * blocks

    def forward(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Vectors ``[B, out_features]`` of images ``[B, channels, height, width]``."""
        vectors = [maps.flatten(1) for maps in self._outputs(x, modulation)]
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)

    def maps(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """The last block's maps ``[B, *map_shape]``."""
        return self._outputs(x, modulation)[-1]

    def _outputs(self, x: Tensor, modulation: Modulation | None) -> list[Tensor]:
        """The maps of every block that a vector holds."""
        x = channels_last(x)
        outputs = []
        for block in range(self.blocks):
            convolution, norm = self.convolutions[block], self.norms[block]
            assert isinstance(convolution, nn.Conv2d)
            merged = modulation is None and is_plain(convolution)
            one = folded(convolution, norm, x) if merged else None
            if one is not None:
                x = self._convolved(x, *one)
            elif merged and self._in_pieces(x, convolution) and by_its_batch(norm):
                x = normalized_and_pooled(convolution, norm, x)
            else:
                x = norm(convolution(x))
                if modulation is not None:
                    x = modulate(x, *modulation[block])
                x = self._halved(x)
            if block >= self.blocks - self.joined_blocks:
                outputs.append(x)
        return outputs

    def _in_pieces(self, x: Tensor, convolution: nn.Conv2d) -> bool:
        return self.pooling == "max" and pays(x, convolution.weight)

    def _halved(self, x: Tensor) -> Tensor:
        # Pooling commutes with ReLU; this order touches a quarter of the memory.
        return torch.relu_(F.max_pool2d(x, 2) if self.pooling == "max" else x)

    def _convolved(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """A whole block, with the normalisation in its kernel and bias."""
        if self.pooling == "stride":
            return self._halved(F.conv2d(x, kernel, bias, stride=2, padding=1))
        if pays(x, kernel):
            return convolved_and_pooled(x, kernel, bias)
        return self._halved(convolved(x, kernel, bias))
