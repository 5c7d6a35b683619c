"""Drawing letters: clean shapes out of font files, and handwriting-like pictures out of the shapes.

A letter is rendered once for each face and kept as a signed distance field. A threshold on such a
field is an outline, so that moving the threshold thickens or thins the strokes evenly, and sampling
the field on a bent grid bends the letter without making its edges ragged.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

FIELD_SIDE = 64
"""Side of a shape's field, in field pixels."""

LETTER_SIDE = 48
"""Longest side of the letter inside its field, in field pixels."""

FIELD_REACH = 8
"""Distances are cut off here, in field pixels; the margin around a letter is as wide."""

IMAGE_SIDE = 28
"""Side of a finished picture, in pixels."""

_FONT_SIZE = 96
_CANVAS = (360, 240)
_SUPERSAMPLING = 2
# So many at a time stay in the processor's cache.
_BATCH = 64
_BORDER = 1.0

# How far the hand may stray. Lengths are pixels of the finished picture.
_ROTATION = np.deg2rad(15.0)
_SHEAR = 0.25
_LOG_STRETCH = 0.2
_LETTER_LENGTH = (17.0, 25.0)
_SHIFT = 3.0
_STROKE_WIDTH = (1.7, 3.1)
_THINNEST_STROKE = 1.0
_NARROWEST_GAP = 1.2
_WARP_KNOTS = 5
_WARP_SIZE = 1.0
_PRESSURE_SIZE = 0.15


@dataclass(frozen=True)
class Shapes:
    """Letters as signed distance fields, one for each letter and face.

    Attributes:
        fields: int8 [S, 64, 64], distance to the outline in sixteenths of a field pixel, positive
            in ink, cut off at ±127.
        extents: float64 [S, 2], width and height of the ink in field pixels.
        half_strokes: float64 [S], half the typical stroke width in field pixels.
        half_hairlines: float64 [S], half the width of the thinnest strokes.
        half_gaps: float64 [S], half the width of the narrowest gaps between strokes.
    """

    fields: NDArray[np.int8]
    extents: NDArray[np.float64]
    half_strokes: NDArray[np.float64]
    half_hairlines: NDArray[np.float64]
    half_gaps: NDArray[np.float64]


def render_letters(face: Path, letters: Sequence[str]) -> NDArray[np.uint8]:
    """Renders letters in one face, each centred and scaled to the same longest side.

    Args:
        face: a TrueType file.
        letters: single characters that the face has.

    Returns:
        uint8 [len(letters), 64, 64], ink coverage (0 to 255).
    """
    # Basic layout: one glyph a character, whatever shaping library this Pillow was built with.
    font = ImageFont.truetype(str(face), _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    rendered = np.zeros((len(letters), FIELD_SIDE, FIELD_SIDE), dtype=np.uint8)
    for coverage, letter in zip(rendered, letters, strict=True):
        canvas = Image.new("L", _CANVAS)
        ImageDraw.Draw(canvas).text(
            (_CANVAS[0] // 2, 150), letter, fill=255, font=font, anchor="ms"
        )
        box = canvas.getbbox()
        if box is None:
            continue
        scale = LETTER_SIDE / max(box[2] - box[0], box[3] - box[1])
        width = max(1, round((box[2] - box[0]) * scale))
        height = max(1, round((box[3] - box[1]) * scale))
        picture = canvas.crop(box).resize((width, height), Image.Resampling.BOX)
        top, left = (FIELD_SIDE - height) // 2, (FIELD_SIDE - width) // 2
        coverage[top : top + height, left : left + width] = np.asarray(picture)
    return rendered


def concatenate_shapes(parts: Sequence[Shapes]) -> Shapes:
    """Puts shapes one after another, as `np.concatenate` does."""
    columns = (
        tuple(getattr(part, field.name) for part in parts) for field in dataclass_fields(Shapes)
    )
    return Shapes(*map(np.concatenate, columns))


def _distance(marked: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Euclidean distance to the nearest marked pixel, exact up to FIELD_REACH.

    Args:
        marked: [S, 64, 64].

    Returns:
        float32 [S, 64, 64], in field pixels; FIELD_REACH and a little where nothing is near.
    """
    # The squared distance is separable: a minimum along rows of a minimum along columns. Squares up
    # to the reach fit in one byte, which makes this the quick way for thousands of small pictures.
    far = FIELD_REACH**2 + 1
    squared = np.where(marked, 0, far).astype(np.uint8)
    for _ in range(2):
        # The axis that is searched comes first, so that a step along it is one long run of memory.
        squared = np.ascontiguousarray(squared.transpose(2, 0, 1))
        nearest = squared.copy()
        for step in range(1, FIELD_REACH + 1):
            farther = squared + np.uint8(step**2)
            np.minimum(nearest[step:], farther[:-step], out=nearest[step:])
            np.minimum(nearest[:-step], farther[step:], out=nearest[:-step])
        squared = nearest
    roots = np.sqrt(np.arange(256, dtype=np.float32))
    distance: NDArray[np.float32] = roots[squared.transpose(2, 0, 1)]
    return distance


def _narrowest(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Half the width of the narrowest stretches of each picture's region.

    Args:
        distance: float32 [S, 64, 64], distance to the region's border, 0 outside of the region.

    Returns:
        float64 [S], in field pixels; FIELD_REACH where nothing is narrow.
    """
    # Midway between two sides the distance has a ridge as high as half the width. Along the lines
    # into corners it has none, as it grows steadily there, and the plain beyond the reach is none.
    # A tenth of the ridge is passed over: it is specks and tips.
    highest = np.pad(distance, ((0, 0), (1, 1), (1, 1)))
    highest = np.maximum(np.maximum(highest[:, :-2], highest[:, 1:-1]), highest[:, 2:])
    highest = np.maximum(np.maximum(highest[..., :-2], highest[..., 1:-1]), highest[..., 2:])
    ridge = (distance > 0) & (distance < FIELD_REACH - 1) & (distance >= highest)
    owner, height = ridge.nonzero()[0], distance[ridge]
    height = height[np.lexsort((height, owner))]
    counts = np.bincount(owner, minlength=len(distance))
    starts = np.cumsum(counts) - counts
    narrowest = np.full(len(distance), float(FIELD_REACH))
    there = counts > 0
    narrowest[there] = height[(starts + counts // 10)[there]]
    return narrowest


def shapes_of(coverage: NDArray[np.uint8]) -> Shapes:
    """Turns rendered letters into distance fields and measures them.

    Args:
        coverage: uint8 [S, 64, 64], as from `render_letters`.

    Returns:
        The shapes, in the same order.
    """
    starts = range(0, max(1, len(coverage)), _BATCH)
    return concatenate_shapes([_measure(coverage[start : start + _BATCH]) for start in starts])


def _measure(coverage: NDArray[np.uint8]) -> Shapes:
    ink = coverage >= 128
    # Half a pixel: distances run between pixel centres, the outline between pixels. In the pixels
    # that the outline crosses, the coverage tells more exactly where it runs.
    field = np.where(ink, _distance(~ink) - 0.5, 0.5 - _distance(ink))
    field = np.where(np.abs(field) <= 0.5, coverage / np.float32(255) - 0.5, field)
    inside, outside = np.maximum(field, 0), np.maximum(-field, 0)
    extents = np.stack((ink.any(axis=1).sum(axis=1), ink.any(axis=2).sum(axis=1)), axis=1)
    # Across an even stroke of half width h the distance to the outline averages h / 2.
    half_strokes = 2 * inside.sum(axis=(1, 2), dtype=np.float64) / np.maximum(ink.sum((1, 2)), 1)
    return Shapes(
        fields=np.clip(np.round(field * 16), -127, 127).astype(np.int8),
        extents=extents.astype(np.float64),
        half_strokes=half_strokes,
        half_hairlines=_narrowest(inside),
        half_gaps=_narrowest(outside),
    )


def _affine(
    extents: NDArray[np.float64], random: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Chooses a rotation, shear, stretch, size and place for each picture.

    Args:
        extents: [N, 2], width and height of the ink in field pixels.
        random: [N, 6], uniform in [-1, 1).

    Returns:
        Matrices [N, 2, 2] from field pixels to picture pixels, shifts [N, 2] in picture pixels, and
        the scales [N] in picture pixels a field pixel.
    """
    angle, shear, stretch, size, right, down = random.T
    cosine, sine = np.cos(angle * _ROTATION), np.sin(angle * _ROTATION)
    wide, slope = np.exp(stretch * _LOG_STRETCH / 2), shear * _SHEAR
    turn = np.stack((np.stack((cosine, -sine), 1), np.stack((sine, cosine), 1)), 1)
    zero = np.zeros_like(wide)
    lean = np.stack((np.stack((wide, slope), 1), np.stack((zero, 1 / wide), 1)), 1)
    matrices = turn @ lean
    smallest, largest = _LETTER_LENGTH
    scales = (smallest + (largest - smallest) * (size + 1) / 2) / LETTER_SIDE
    # Turned and sheared letters need more room: shrink those that would touch the border.
    halves = (np.abs(matrices) @ extents[:, :, None])[:, :, 0] / 2
    room = IMAGE_SIDE / 2 - _BORDER - _STROKE_WIDTH[0] / 2
    scales = np.minimum(scales, room / halves.max(axis=1))
    freedom = np.clip(room - halves * scales[:, None], 0, _SHIFT)
    shifts = np.stack((right, down), 1) * freedom
    return matrices * scales[:, None, None], shifts, scales


def draw_pictures(
    shapes: Shapes, chosen: NDArray[np.int64], generators: Sequence[np.random.Generator]
) -> NDArray[np.uint8]:
    """Draws each chosen shape once, as if by another hand.

    Args:
        shapes: the letters.
        chosen: int64 [G, P], for each of G generators the shapes of P pictures.
        generators: where the chance of each row comes from, so that a row's pictures do not depend
            on which other rows are drawn.

    Returns:
        uint8 [G * P, 1, 28, 28], black ink (0) on white (255), row after row.
    """
    pictures = chosen.shape[1]
    uniform = np.concatenate([g.uniform(-1, 1, (pictures, 7)) for g in generators])
    knots = np.concatenate(
        [
            g.standard_normal((pictures, 3, _WARP_KNOTS, _WARP_KNOTS), dtype=np.float32)
            for g in generators
        ]
    )
    index = chosen.reshape(-1)
    matrices, shifts, scales = _affine(shapes.extents[index], uniform[:, :6])
    inverse = np.linalg.inv(matrices)
    thin, thick = _STROKE_WIDTH
    wanted = (thin + (thick - thin) * (uniform[:, 6] + 1) / 2) / 2
    # Strokes are thinned only so far that the letter's hairlines stay, and thickened only so far
    # that its holes stay open; where there is no room for both, the lack is shared.
    lowest = _THINNEST_STROKE / 2 - shapes.half_hairlines[index] * scales
    highest = shapes.half_gaps[index] * scales - _NARROWEST_GAP / 2
    middle = (lowest + highest) / 2
    gain = np.clip(
        wanted - shapes.half_strokes[index] * scales,
        np.minimum(lowest, middle),
        np.maximum(highest, middle),
    )
    images = np.empty((len(index), 1, IMAGE_SIDE, IMAGE_SIDE), dtype=np.uint8)
    with _one_thread():
        for start in range(0, len(index), _BATCH):
            part = slice(start, start + _BATCH)
            field = torch.from_numpy(shapes.fields[index[part]])[:, None].float() / 16
            images[part] = _ink(
                field, inverse[part], shifts[part], scales[part], gain[part], knots[part]
            )
    return images


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps torch to one thread.

    Batches that fit the cache are too small to share: handing them out costs more than drawing
    them, many times more on a busy machine. One thread also takes the number of threads out of
    what the last bit could depend on.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ink(
    field: Tensor,
    inverse: NDArray[np.floating[Any]],
    shifts: NDArray[np.float64],
    scales: NDArray[np.float64],
    gain: NDArray[np.float64],
    knots: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Samples fields on bent grids and fills their outlines.

    Args:
        field: float32 [N, 1, 64, 64], distances in field pixels.
        inverse: [N, 2, 2], from picture pixels to field pixels.
        shifts: [N, 2], where the letter's middle lies, from the picture's middle, in pixels.
        scales: [N], picture pixels a field pixel.
        gain: [N], what is added to each side of a stroke, in picture pixels.
        knots: [N, 3, K, K], displacement right and down, and pressure, at the knots of a coarse
            grid over the picture, in standard deviations.

    Returns:
        uint8 [N, 1, 28, 28], black on white.
    """
    count, side = len(field), IMAGE_SIDE * _SUPERSAMPLING
    bend = F.interpolate(
        torch.from_numpy(knots), size=(side, side), mode="bicubic", align_corners=True
    )
    centre = (torch.arange(side, dtype=torch.float32) + 0.5) / _SUPERSAMPLING - IMAGE_SIDE / 2
    place = torch.from_numpy(shifts).float()[:, :, None, None]
    right = centre[None, None, :] - place[:, 0] + bend[:, 0] * _WARP_SIZE
    down = centre[None, :, None] - place[:, 1] + bend[:, 1] * _WARP_SIZE
    # grid_sample wants coordinates from -1 to 1 across the field.
    rows = torch.from_numpy(inverse * (2 / FIELD_SIDE)).float()[:, :, :, None, None]
    grid = torch.stack(
        [rows[:, axis, 0] * right + rows[:, axis, 1] * down for axis in (0, 1)], dim=-1
    )
    distance = F.grid_sample(field, grid, padding_mode="border", align_corners=False)
    per_picture = torch.from_numpy(np.stack((scales, gain))).float().view(2, count, 1, 1, 1)
    distance = distance * per_picture[0] + per_picture[1] + bend[:, 2:] * _PRESSURE_SIZE
    # A sample is a square of side 1 / supersampling that the outline crosses at this distance.
    covered = (distance * _SUPERSAMPLING + 0.5).clamp(0, 1)
    covered = F.avg_pool2d(covered, _SUPERSAMPLING)
    return (255 - (covered * 255).round()).to(torch.uint8).numpy()
