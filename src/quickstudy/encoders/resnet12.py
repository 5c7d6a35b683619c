"""ResNet-12 with the recipe of MetaOptNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import Encoder, Modulation, image_shape, modulate
from quickstudy.encoders.normalization import Normalization, normalization_layer
from quickstudy.errors import InputError


class DropBlock(nn.Module):
    """Drops square regions of feature maps in training, fewer of them at the start.

    Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018, equation 1: seeds are drawn with probability
    γ = rate / size² · map² / (map − size + 1)², and each seed drops a square of ``size``. The
    rate grows linearly over the first ``warmup`` passes.

    Args:
        rate: the fraction of units dropped once warm.
        size: the side of a dropped square; at most the side of the map.
        warmup: training passes until ``rate`` is reached.
    """

    def __init__(self, rate: float, size: int, warmup: int) -> None:
        super().__init__()
        self.rate, self.size, self.warmup = rate, size, warmup
        # A number, not a buffer: inner gradients (torch.func) must not change a tensor in place.
        self.passes = 0

    def get_extra_state(self) -> Tensor:
        """The passes so far, which belong to a checkpoint."""
        return torch.tensor(self.passes)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the passes of a checkpoint."""
        self.passes = int(state)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        self.passes += 1
        rate = self.rate * min(1.0, self.passes / max(1, self.warmup))
        height, width = x.shape[-2:]
        side = min(self.size, height, width)
        seeds_high, seeds_wide = height - side + 1, width - side + 1
        gamma = rate / side**2 * (height * width) / (seeds_high * seeds_wide)
        seeds = (torch.rand(*x.shape[:2], seeds_high, seeds_wide, device=x.device) < gamma).to(x)
        dropped = F.max_pool2d(F.pad(seeds, (side - 1,) * 4), side, stride=1)
        kept = 1 - dropped
        return x * kept * (kept.numel() / kept.sum().clamp(min=1))


class ResNet12(Encoder):
    """Four residual blocks of three 3x3 convolutions, each block halving the map.

    Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR 2019: widths 64, 160,
    320, 640, leaky ReLU 0.1, dropout in the first two blocks and DropBlock (5x5) in the last two.

    Args:
        input_shape: (channels, height, width) of an image.
        widths: channels of the four blocks.
        drop_rate: of dropout and DropBlock; 0 switches both off.
        drop_block_size: side of a dropped square in the last two blocks.
        drop_block_warmup: training passes until DropBlock reaches its rate.
        pool: average the last map to one vector (640 values) instead of flattening it.
        normalization: "batch", "group" or "none". A trained network uses running averages for
            "batch", so no output depends on another input.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (3, 84, 84),
        widths: Sequence[int] = (64, 160, 320, 640),
        drop_rate: float = 0.1,
        drop_block_size: int = 5,
        drop_block_warmup: int = 40_000,
        pool: bool = True,
        normalization: Normalization = "batch",
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(input_shape, "ResNet12")
        if min(height, width) < 2 ** len(widths):
            raise InputError(
                f"Images of {tuple(input_shape)} are too small to be halved {len(widths)} times; "
                f"ResNet12 needs at least {2 ** len(widths)} pixels a side."
            )
        self.input_shape = tuple(input_shape)
        self.widths = tuple(widths)
        self.drop_rate = drop_rate
        self.drop_block_size = drop_block_size
        self.drop_block_warmup = drop_block_warmup
        self.pool = pool
        self.normalization = normalization
        self.blocks = nn.ModuleList()
        for number, wide in enumerate(self.widths):
            drop: nn.Module = (
                DropBlock(drop_rate, drop_block_size, drop_block_warmup)
                if number >= len(self.widths) - 2
                else nn.Dropout(drop_rate)
            )
            self.blocks.append(ResidualBlock(channels, wide, drop, normalization))
            channels, height, width = wide, height // 2, width // 2
        self.map_shape = (channels, height, width)
        self.out_features = channels if pool else channels * height * width
        self.modulated_channels = self.widths

    def forward(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Vectors ``[B, out_features]`` of images ``[B, channels, height, width]``."""
        x = self.maps(x, modulation)
        return x.mean((-2, -1)) if self.pool else x.flatten(1)

    def maps(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """The last block's maps ``[B, *map_shape]``."""
        for number, block in enumerate(self.blocks):
            x = block(x, None if modulation is None else modulation[number])
        return x


class ResidualBlock(nn.Module):
    """Three convolutions beside a 1x1 shortcut, then max-pooling and dropping."""

    def __init__(
        self, in_channels: int, channels: int, drop: nn.Module, normalization: Normalization
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(in_channels if i == 0 else channels, channels, 3, padding=1, bias=False)
            for i in range(3)
        )
        self.norms = nn.ModuleList(normalization_layer(normalization, channels) for _ in range(3))
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, bias=False),
            normalization_layer(normalization, channels),
        )
        self.drop = drop

    def forward(self, x: Tensor, modulation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        shortcut = self.shortcut(x)
        for i in range(3):
            x = self.norms[i](self.convolutions[i](x))
            if i < 2:
                x = F.leaky_relu(x, 0.1)
        if modulation is not None:
            x = modulate(x, *modulation)
        x = F.leaky_relu(x + shortcut, 0.1)
        output: Tensor = self.drop(F.max_pool2d(x, 2))
        return output
