"""Images with more than 8 bits per value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from quickstudy.errors import InputError
from quickstudy.inputs.remarks import remark

BITS = (8, 10, 12, 14, 16)
"""Bit depths of cameras and scanners. A 16-bit image is taken to have the smallest of these that
holds its largest value, so that a 12-bit image in a 16-bit file is not black.
"""

_ABOVE_14_BITS = 64  # of the upper byte


def remark_if_black(pixels: NDArray[np.uint8], raw: Any) -> None:
    """Says of an image that its values are 0 and 1 of 255, as masks and drawings are often saved.

    Args:
        pixels: of the image as it is stored.
        raw: the image.
    """
    if pixels.max(initial=0) == 1:
        remark(
            raw,
            "image",
            "its largest value is 1 of 255, so that it is black; if 1 is white, save it with 255 "
            "or as an image of 1 bit, or give truth values",
        )


def in_eight_bits(wide: NDArray[Any], raw: Any) -> NDArray[np.uint8]:
    """Values of up to 16 bits, scaled to 8 bits so that white stays white.

    Args:
        wide: whole numbers from 0 to 65535.
        raw: the image, named in the remark if fewer than 16 bits are used.
    """
    highest = int(wide.max(initial=0))
    bits = next(each for each in BITS if highest < 2**each)
    white = 2**bits - 1
    if bits < 16 and highest:
        remark(
            raw,
            "image",
            f"the values of a 16-bit image use only {bits} bits, so {white} is read as white; to "
            "keep brightness comparable between images, save them with 8 bits",
        )
    if bits == 8:
        return wide.astype(np.uint8)
    scaled = (wide.astype(np.uint32) * 255 + white // 2) // white
    narrow: NDArray[np.uint8] = scaled.astype(np.uint8)
    return narrow


def from_numbers(image: Image.Image, raw: Any) -> Image.Image:
    """An image of 16-bit, 32-bit or float values as an 8-bit image.

    Raises:
        ValueError: the scale is unknown: the values are neither whole numbers from 0 to 65535 nor
            floats from 0 to 1.
    """
    values = np.asarray(image)
    lowest, highest = values.min(initial=0), values.max(initial=0)
    if image.mode == "F":
        if lowest >= 0 and 0 < highest <= 1:
            return Image.fromarray(np.rint(values * 255).astype(np.uint8))
        between = "floats between 0 and 1"
    else:
        if lowest >= 0 and highest <= 65535:
            return Image.fromarray(in_eight_bits(values, raw))
        between = "whole numbers between 0 and 65535"
    raise InputError(
        f"its pixels are 32-bit numbers from {lowest:g} to {highest:g}, so it is unclear which are "
        f"black and white; scale them to {between}, or convert it to 8 or 16 bits"
    )


def colour_depth(image: Image.Image) -> str | None:
    """How Pillow unpacks a 16-bit colour image that is not yet loaded; None for other images.

    Pillow keeps only the upper byte of each value, so values that use only the lower one are lost.
    """
    if image.mode not in ("RGB", "RGBA") or not isinstance(image, ImageFile) or not image.tile:
        return None
    arguments: Any = image.tile[0].args
    packed = arguments if isinstance(arguments, str) else next(iter(arguments or ()), None)
    return packed if isinstance(packed, str) and ";16" in packed else None


def full_colour(
    upper: Image.Image, packed: str, again: Callable[[], Image.Image], raw: Any
) -> Image.Image:
    """A 16-bit colour image that uses fewer bits, as an 8-bit image.

    Args:
        upper: the upper byte of each value, as Pillow has read it.
        packed: the result of :func:`colour_depth`.
        again: opens the image once more, not loaded.
        raw: the image that remarks name.
    """
    colours = np.asarray(upper)[..., :3]
    if colours.max(initial=0) >= _ABOVE_14_BITS:
        return upper
    try:
        with again() as image:
            assert isinstance(image, ImageFile)
            image.tile = [tile._replace(args=_swapped(tile.args, packed)) for tile in image.tile]
            image.load()
            lower = np.asarray(image)[..., :3]
    except (ValueError, OSError):  # Pillow has no such way of unpacking, as for grey with alpha
        remark(
            raw,
            "image",
            "only the upper 8 of its 16 bits per value are read, which leaves it nearly black; "
            "save it with 8 bits",
        )
        return upper
    narrow = in_eight_bits(colours.astype(np.uint16) * 256 + lower, raw)
    if upper.mode == "RGB":
        return Image.fromarray(narrow)
    return Image.fromarray(np.dstack([narrow, np.asarray(upper)[..., 3]]))


def _swapped(arguments: Any, packed: str) -> Any:
    """The arguments of Pillow's decoder with the other byte order: the lower byte is read."""
    native = "L" if sys.byteorder == "little" else "B"
    name, order = packed[:-1], packed[-1]
    other = {"L": "B", "B": "L"}[native if order == "N" else order]
    if isinstance(arguments, str):
        return name + other
    return (name + other, *arguments[1:])
