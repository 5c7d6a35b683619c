"""The built-in data set: letters of many scripts, drawn on the spot from matplotlib's own fonts.

Everything comes out of the font files that matplotlib ships and of the seed: no network, no font of
the system. Nearly 700 letters of 15 scripts are drawn in up to 16 faces with random rotation,
scale, shear, stroke weight and elastic warp, so that a class looks like one letter in many hands.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray

from quickstudy.datasets.sources.glyph_drawing import (
    Shapes,
    concatenate_shapes,
    draw_pictures,
    render_letters,
    shapes_of,
)
from quickstudy.errors import InputError, MissingFileError

SCRIPTS: dict[str, tuple[str, ...]] = {
    # Scripts that grew out of one another share letters, so they stay together: Latin, Greek,
    # Cyrillic, Coptic and Old Italic, and Lisu, which is made of turned Latin capitals.
    "train": (
        "Latin",
        "Greek",
        "Cyrillic",
        "Coptic",
        "Old Italic",
        "Lisu",
        "Canadian Syllabics",
        "Arabic",
        "Ogham",
    ),
    "validation": ("Armenian", "Nko", "Lao"),
    "test": ("Georgian", "Hebrew", "Tifinagh"),
}
"""The scripts of each split, called as Unicode's character names begin. Of two letters that look
alike, the one earlier in this table stays."""

FACES: tuple[str, ...] = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
)
"""Text faces by file name. The first has every letter used here and decides about look-alikes.
matplotlib's other files hold mathematics in odd encodings, or the placeholders of LastResort."""

# Letters that are another letter with a mark, or two letters in one.
_DERIVED = re.compile(r" WITH |LIGATURE|DIGRAPH|VOWEL SIGN|FRAGMENT")

# Canadian syllabics spell a consonant by a shape and its vowel by turning the shape. Left out are
# the same shapes again with a dot before, behind or above (the series in W and the long vowels)
# and small (consonants alone and finals).
_DERIVED_SYLLABLE = re.compile(r"FINAL|CARRIER I$|W[AEIO]+$|(II|OO|AA|AAI)$|[^AEIO]$")

# Two letters look alike if, scaled to the same size, hardly any ink of either lies farther from the
# other's ink than a small distance. The distance, 1/24 of the letter's length, is a third to a half
# of a stroke's width and about what the random warp displaces. The shares were found by listing
# pairs in order. Up to 0.05 nearly all are one picture twice (Cc, Uu, the O of five scripts) or
# differ by a fleck that 28 pixels do not show (Arabic letters with three dots or four); beyond it
# more and more are letters that a reader tells apart (Єє, Խծ). Between splits some pairs up to 0.08
# would still pass for each other (Latin S and G beside letters of Armenian and Georgian), and a
# letter that is tested should be new: there the limit is stricter.
_NEAR = 2.0
_LOOK_ALIKE = 0.05
_LOOK_ALIKE_ACROSS_SPLITS = 0.08


@dataclass(frozen=True)
class Glyphs:
    """Drawn letters.

    Attributes:
        images: uint8 [sum(sizes), 1, 28, 28], black ink (0) on white (255), class after class.
        class_names: script and Unicode name of each letter, such as "Greek/small letter alpha".
        sizes: images of each class.
        splits: class names of "train", "validation" and "test"; no script is in two of them.
    """

    images: NDArray[np.uint8]
    class_names: tuple[str, ...]
    sizes: tuple[int, ...]
    splits: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Letter:
    """A letter that may become a class.

    Attributes:
        character: the letter itself.
        script: its script, as in `SCRIPTS`.
        name: its class name.
    """

    character: str
    script: str
    name: str


@dataclass(frozen=True)
class Alphabet:
    """The letters that make up the classes, and their shapes.

    Attributes:
        letters: one a class, in the order of `SCRIPTS`, then of code points.
        shapes: every usable rendering of every letter.
        renderings: for each letter, which shapes are its own; the first is in the reference face.
    """

    letters: tuple[Letter, ...]
    shapes: Shapes
    renderings: tuple[tuple[int, ...], ...]


def draw_glyphs(seed: int = 0, per_class: int = 20, classes_per_split: int | None = None) -> Glyphs:
    """Draws the data set, the same for the same seed to the last bit.

    Args:
        seed: random seed; not negative.
        per_class: images of each class.
        classes_per_split: draw only so many classes of each split, evenly spread over it, for a
            quick look; the images are those that the whole data set has. All classes if None.

    Returns:
        The images, class after class, with names and splits.

    Raises:
        ValueError: if `seed` is negative, or another number is below one.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}, but has to be 0 or more")
    if per_class < 1:
        raise InputError(f"per_class is {per_class}, but a class needs at least 1 image")
    if classes_per_split is not None and classes_per_split < 1:
        raise InputError(f"classes_per_split is {classes_per_split}, but has to be at least 1")
    alphabet = gather_alphabet()
    positions: list[int] = []
    splits: dict[str, tuple[str, ...]] = {}
    for split, scripts in SCRIPTS.items():
        own = [i for i, letter in enumerate(alphabet.letters) if letter.script in scripts]
        if classes_per_split is not None and classes_per_split < len(own):
            own = [own[i * len(own) // classes_per_split] for i in range(classes_per_split)]
        positions += own
        splits[split] = tuple(alphabet.letters[i].name for i in own)
    letters = [alphabet.letters[i] for i in positions]
    # Chance comes from the letter, not from its place in the list: one letter more or less in
    # another release of the fonts leaves the images of all others as they are.
    generators = [np.random.default_rng((seed, ord(letter.character))) for letter in letters]
    chosen = np.stack(
        [
            _deal(alphabet.renderings[i], per_class, generator)
            for i, generator in zip(positions, generators, strict=True)
        ]
    )
    images = draw_pictures(alphabet.shapes, chosen, generators)
    names = tuple(letter.name for letter in letters)
    return Glyphs(images, names, (per_class,) * len(names), splits)


def gather_alphabet() -> Alphabet:
    """Finds the letters that the faces have and keeps those that a reader can tell apart.

    Returns:
        The letters with their shapes.

    Raises:
        FileNotFoundError: if matplotlib was installed without its fonts.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [folder / f"{face}.ttf" for face in FACES]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise MissingFileError(
            f"the glyphs are drawn from the fonts that come with matplotlib, but {folder} lacks "
            f"{', '.join(missing)}; reinstall matplotlib from PyPI or conda-forge"
        )
    characters = [{chr(code) for code in FT2Font(str(path)).get_charmap()} for path in paths]
    letters = _base_letters(characters[0])
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    splits = np.array([split_of[letter.script] for letter in letters])
    across = splits[:, None] != splits[None, :]

    # The reference face decides which letters are classes. In another face a letter may still turn
    # into the picture of another class (Cyrillic и is Latin u in serif italics): then the letter is
    # not drawn in that face.
    limits = np.where(across, _LOOK_ALIKE_ACROSS_SPLITS, _LOOK_ALIKE)
    wanted = list(range(len(letters)))
    renderings: dict[int, list[int]] = {}
    parts: list[Shapes] = []
    for path, available in zip(paths, characters, strict=True):
        having = np.array([i for i in wanted if letters[i].character in available], dtype=np.int64)
        part = shapes_of(render_letters(path, [letters[i].character for i in having]))
        offset = sum(len(earlier.fields) for earlier in parts)
        for position in _distinct(part.fields, limits[having][:, having]):
            renderings.setdefault(int(having[position]), []).append(offset + position)
        parts.append(part)
        wanted = sorted(renderings)
        limits = np.full_like(limits, _LOOK_ALIKE)
    classes = tuple(letters[i] for i in wanted)
    return Alphabet(classes, concatenate_shapes(parts), tuple(tuple(renderings[i]) for i in wanted))


def _base_letters(characters: set[str]) -> list[Letter]:
    """Picks the letters without marks of the listed scripts, in the order of `SCRIPTS`.

    Modifier letters (small raised copies), letters that Unicode takes apart into others
    (accented, presentation forms, mathematical alphabets) and named variants are left out.
    """
    letters: list[Letter] = []
    for script in (script for scripts in SCRIPTS.values() for script in scripts):
        prefix = f"{script.upper()} "
        for character in sorted(characters):
            name = unicodedata.name(character, "")
            if (
                name.startswith(prefix)
                and unicodedata.category(character) in ("Lu", "Ll", "Lo")
                and unicodedata.normalize("NFKD", character) == character
                and not _DERIVED.search(name)
                and not (script == "Canadian Syllabics" and _DERIVED_SYLLABLE.search(name))
            ):
                own_name = name.removeprefix(prefix).lower()
                letters.append(Letter(character, script, f"{script}/{own_name}"))
    return letters


def look_alike_distances(fields: NDArray[np.int8]) -> NDArray[np.float32]:
    """Measures how much of two letters' ink is not shared, for every pair.

    Args:
        fields: int8 [S, 64, 64], shapes' fields, as in `Shapes`.

    Returns:
        float32 [S, S], symmetric, 0 to 1: the share of one letter's ink that lies farther than
        1/24 of its length from the other's, for the worse of the two directions.
    """
    # Every other pixel is enough, as strokes are several field pixels wide. Counts of pixels are
    # exact in float32, so no rounding can tip a pair over the threshold.
    coarse = fields[:, ::2, ::2].reshape(len(fields), -1)
    ink = (coarse > 0).astype(np.float32)
    far = (coarse < -16 * _NEAR).astype(np.float32)
    unshared: NDArray[np.float32] = ink @ far.T / np.maximum(ink.sum(axis=1, keepdims=True), 1)
    return np.maximum(unshared, unshared.T)


def _distinct(fields: NDArray[np.int8], limits: NDArray[np.float64]) -> list[int]:
    """Keeps each shape that has ink and is no look-alike, by limits [S, S], of one kept before."""
    clear = look_alike_distances(fields) >= limits
    kept: list[int] = []
    for position, row in enumerate(clear):
        if (fields[position] > 0).any() and row[kept].all():
            kept.append(position)
    return kept


def _deal(
    renderings: tuple[int, ...], pictures: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Deals the pictures of a class evenly to its renderings, in random order."""
    rounds = -(-pictures // len(renderings))
    dealt = [generator.permutation(renderings) for _ in range(rounds)]
    return np.concatenate(dealt)[:pictures].astype(np.int64)
