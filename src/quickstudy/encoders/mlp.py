"""Fully connected layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import Encoder, Modulation
from quickstudy.errors import InputError


class MLP(Encoder):
    """Flattened inputs through fully connected layers, each followed by ReLU.

    Args:
        input_shape: of one input; flattened.
        hidden: the widths of the layers; the last is the length of the vectors.
    """

    def __init__(
        self, input_shape: Sequence[int] = (1, 28, 28), hidden: Sequence[int] = (256, 128, 64, 64)
    ) -> None:
        super().__init__()
        if not hidden:
            raise InputError("An MLP needs at least one hidden width; none was given.")
        self.input_shape = tuple(input_shape)
        self.hidden = tuple(hidden)
        widths = [math.prod(input_shape), *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out_features = widths[-1]
        self.modulated_channels = self.hidden

    def forward(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Vectors ``[B, out_features]`` of inputs ``[B, *input_shape]``."""
        x = x.flatten(1)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if modulation is not None:
                scale, shift = modulation[number]
                x = x * (1 + scale) + shift
            x = F.relu(x)
        return x
