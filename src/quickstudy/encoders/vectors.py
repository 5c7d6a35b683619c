"""No network at all, for inputs that are vectors already."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from quickstudy.encoders.encoder import Encoder
from quickstudy.errors import InputError


class Vectors(Encoder):
    """Stands for the encoder in a strategy that reads vectors which something else made.

    Args:
        input_shape: ``(D,)``.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        super().__init__()
        if len(input_shape) != 1 or input_shape[0] < 1:
            raise InputError(f"Vectors have one length D; the shape {tuple(input_shape)} has not.")
        self.input_shape = tuple(input_shape)
        self.out_features = input_shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return x
