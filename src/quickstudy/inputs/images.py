"""Images of any size and mode to tensors of one shape."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from quickstudy.deprecated import RenamedAttribute
from quickstudy.errors import InputError
from quickstudy.inputs.depth import colour_depth, from_numbers, full_colour, remark_if_black
from quickstudy.inputs.remarks import remark
from quickstudy.inputs.unreadable import naming

Mode = Literal["L", "RGB"]
"""Grey or colour, as Pillow calls them."""


FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO"),
    *("PNG", "PPM", "TGA", "TIFF", "WEBP"),
)
"""Pillow's names of the formats that are read. Its others start programs (EPS) or are so rare that
they are hardly tested."""

_ORIENTATION = 0x0112  # in EXIF

MOST_PIXELS = 100_000_000
"""Most pixels that are decoded; a large JPEG file may be decoded at a smaller scale."""

LARGEST_SIZE = 10_000
"""Largest side of a stored image in pixels; stored images are square."""


@dataclass(frozen=True)
class ImageInputs:
    """Images as uint8 ``[channels, size, size]``, read by networks as normalised float32.

    Decoding applies the EXIF orientation, flattens transparency on white, converts to grey or
    RGB, and makes the image square: the short side is scaled to ``size``, the rest cropped at
    the centre. Of an animation the first picture is read.

    Values of 16 bits are scaled to 8. An image that uses only 8, 10, 12 or 14 of its 16 bits, as
    cameras and scanners write them, is scaled by the smallest of these that holds its largest
    value, with a warning: each image by itself. Floats lie between 0 and 1.

    Args:
        size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: mean of each channel, on the scale 0 to 1; subtracted.
        std: of each channel, on the same scale; divided by.
        invert: exchange black and white first, so that ink is 1 and paper is 0.

    Raises:
        ValueError: when a setting makes no sense.

    Example:
        >>> from PIL import Image
        >>> from quickstudy.inputs import ImageInputs
        >>> inputs = ImageInputs(size=2, channels=1, invert=True)
        >>> stored = inputs.decode(Image.new("RGB", (30, 20), "white"))
        >>> stored.shape, stored.dtype
        (torch.Size([1, 2, 2]), torch.uint8)
        >>> inputs.prepare(stored[None]).unique()
        tensor([0.])
    """

    modality: ClassVar[str] = "image"
    kind = RenamedAttribute("modality")

    size: int = 84
    channels: int = 3
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    invert: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if not 1 <= self.size <= LARGEST_SIZE or self.channels not in (1, 3):
            raise InputError(
                f"Images of size {self.size} with {self.channels} channels were asked for; the "
                f"size must be from 1 to {LARGEST_SIZE} and the channels 1 (grey) or 3 (RGB)."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise InputError(
                    f"{name} has {len(values)} values for {self.channels} channels; give one for "
                    "all or one for each."
                )
        if min(self.std) <= 0:
            raise InputError(f"std is {self.std}; images are divided by it, so it must be above 0.")

    def decode(self, raw: Any) -> Tensor:
        """One image as uint8 ``[channels, size, size]``.

        Args:
            raw: a path, encoded bytes, a PIL image, or an array or tensor ``[H, W]``,
                ``[H, W, C]`` or ``[C, H, W]`` with 1 (grey), 3 (RGB) or 4 (RGBA) channels:
                integers from 0 to 255, floats from 0 to 1, or booleans (true is white).

        Raises:
            UnreadableError: when it is not an image that can be read; the file is named.
        """
        with naming(raw, "image"):
            mode: Mode = "L" if self.channels == 1 else "RGB"
            # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: large photographs several times
            # faster, and still with twice the pixels that are wanted.
            image = read_image(raw, mode, enough=(2 * self.size, 2 * self.size))
            if image.size != (self.size, self.size):
                image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        array = np.array(image)
        remark_if_black(array, raw)
        pixels = torch.from_numpy(array)
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1).contiguous()

    def prepare(self, stored: Tensor) -> Tensor:
        """Float32 ``[B, channels, size, size]`` from uint8 of the same shape.

        Floats are already prepared (``ClassDataset.gather`` does it) and are returned unchanged.
        """
        if stored.is_floating_point():
            return stored
        # A copy of its own lets the arithmetic happen in place.
        images = stored.to(torch.float32, copy=True).div_(255)
        if self.invert:
            images = images.neg_().add_(1)
        if any(self.mean) or any(value != 1 for value in self.std):
            images.sub_(images.new_tensor(self.mean)[:, None, None])
            images.div_(images.new_tensor(self.std)[:, None, None])
        return images

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        settings = asdict(self)
        return {"kind": self.modality} | settings | {"mean": [*self.mean], "std": [*self.std]}


def read_image(raw: Any, mode: Mode, enough: tuple[int, int] | None = None) -> Image.Image:
    """An upright, opaque image in its own size, from anything that ``ImageInputs.decode`` takes.

    Args:
        raw: a path, encoded bytes, a PIL image, an array or a tensor.
        mode: "L" (grey) or "RGB".
        enough: a width and height from which a JPEG file may be decoded in reduced size.
    """
    if isinstance(raw, bytes | str | Path | io.BytesIO):
        with _opened(raw) as image:
            if enough is not None:
                image.draft(None, enough)
            _check_size(image.size)
            packed = colour_depth(image)
            image.load()  # while the file is open
            if packed:
                orientation = image.getexif().get(_ORIENTATION)
                image = full_colour(image, packed, lambda: _opened(raw), raw)
                if orientation:
                    image.getexif()[_ORIENTATION] = orientation
            ImageOps.exif_transpose(image, in_place=True)
            return _opaque(image, mode, raw)
    if isinstance(raw, Image.Image):
        _check_size(raw.size)
        return _opaque(ImageOps.exif_transpose(raw), mode, raw)
    if isinstance(raw, Tensor):
        raw = raw.detach().cpu()
        raw = (raw.float() if raw.dtype == torch.bfloat16 else raw).numpy()
    if isinstance(raw, np.ndarray):
        return _opaque(_from_array(raw), mode, raw)
    raise InputError(f"a path, bytes, a PIL image or an array is needed, not {type(raw).__name__}")


def _opened(raw: str | Path | bytes | io.BytesIO) -> Image.Image:
    file = io.BytesIO(raw) if isinstance(raw, bytes) else raw
    if isinstance(file, io.BytesIO):
        file.seek(0)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        raise InputError(
            f"it is damaged, or in none of the formats that are read ({', '.join(formats)})"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"it has far more than the {MOST_PIXELS} pixels that are read; make it smaller"
        ) from error


def _check_size(size: tuple[int, int]) -> None:
    """Refuses images that take too much memory, before any of it is decoded."""
    width, height = size
    if width * height > MOST_PIXELS:
        raise InputError(
            f"it has {width}x{height} pixels, and at most {MOST_PIXELS} are read; make it smaller"
        )


def _opaque(image: Image.Image, mode: Mode, raw: Any) -> Image.Image:
    """Flattened on white, and grey or in colour; ``raw`` is the image that remarks name."""
    if image.mode.startswith(("I", "F")):  # Pillow would clip all values above 255
        image = from_numbers(image, raw)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if flat.getextrema() == ((255, 255),) * 4:
            remark(
                raw, "image", "it shows nothing on white, because all of it is transparent or white"
            )
        image = flat
    return image if image.mode == mode else image.convert(mode)


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = (1, 3, 4)
    if array.ndim == 3 and array.shape[-1] not in channels and array.shape[0] in channels:
        array = np.moveaxis(array, 0, -1)
    if array.size == 0 or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in channels)
    ):
        raise InputError(
            f"its shape is {list(array.shape)}; an image is [H, W], [H, W, C] or [C, H, W] with "
            "1, 3 or 4 channels C"
        )
    if array.dtype != np.uint8:
        array = _as_bytes(array)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    whole = np.issubdtype(array.dtype, np.integer)
    if not whole and not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"its values are {array.dtype}; integers or floats are needed")
    highest = 255 if whole else 1
    if not (array.min() >= 0 and array.max() <= highest):
        raise InputError(
            f"its values go from {array.min()} to {array.max()}; integers must lie between 0 "
            "and 255, floats between 0 and 1"
        )
    scaled = array if whole else np.rint(array * 255)
    return scaled.astype(np.uint8)
