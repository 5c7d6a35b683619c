"""The contract between strategies and encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from quickstudy.compute.encoding import check_encoder, encoded
from quickstudy.errors import InputError

Modulation = Sequence[tuple[Tensor, Tensor]]
"""For each modulated layer (scale, shift), each ``[B, channels]``: x → (1 + scale) x + shift."""


class Encoder(nn.Module, ABC):
    """A network from inputs to vectors whose arguments the command line can set.

    In Python any ``nn.Module`` that maps ``[B, *shape]`` to ``[B, D]`` will do.

    Attributes:
        input_shape: of one input; the command line sets it from the data.
        out_features: D, the length of a vector.
    """

    input_shape: tuple[int, ...]
    out_features: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of inputs ``[B, *input_shape]``."""


def is_own(module: nn.Module) -> bool:
    """Whether a module's class belongs to this package."""
    return type(module).__module__.split(".")[0] == __name__.split(".")[0]


def feature_size(encoder: nn.Module) -> int:
    """The length D of the encoder's vectors, which it states as ``out_features``."""
    check_encoder(encoder, "this strategy")
    size = getattr(encoder, "out_features", None)
    if not isinstance(size, int):
        raise InputError(
            f"The encoder {type(encoder).__name__} does not say how long its vectors are, and this "
            "strategy needs to know before it sees data: set its attribute `out_features`."
        )
    return size


def feature_maps(encoder: nn.Module, x: Tensor) -> Tensor:
    """Maps ``[B, C, H, W]`` of inputs ``[B, *shape]``, for methods that compare places of images.

    An encoder that has none gives its vector as a map of one place, ``[B, D, 1, 1]``.
    """
    find: Callable[[Tensor], Tensor] | None = getattr(encoder, "maps", None)
    if find is not None:
        return find(x)
    return encoded(encoder, x)[:, :, None, None]


def map_shape(encoder: nn.Module) -> tuple[int, int, int]:
    """The shape (C, H, W) of what :func:`feature_maps` gives."""
    return getattr(encoder, "map_shape", None) or (feature_size(encoder), 1, 1)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Feature-wise linear modulation of maps ``[B, C, H, W]`` by ``[B, C]`` (Perez et al. 2018)."""
    return x * (1 + scale)[:, :, None, None] + shift[:, :, None, None]


def image_shape(input_shape: Sequence[int], encoder: str) -> tuple[int, int, int]:
    """Checks that ``input_shape`` is (channels, height, width)."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(
            f"{encoder} reads images [channels, height, width], but its input_shape is "
            f"{tuple(input_shape)}."
        )
    channels, height, width = input_shape
    return channels, height, width
