"""The built-in letters: sane pictures, honest splits, the same for the same seed."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from quickstudy.datasets.sources.glyph_drawing import FIELD_REACH, render_letters, shapes_of
from quickstudy.datasets.sources.glyphs import (
    FACES,
    SCRIPTS,
    Alphabet,
    Glyphs,
    draw_glyphs,
    gather_alphabet,
    look_alike_distances,
)


@pytest.fixture(scope="module", autouse=True)
def alphabet() -> Iterator[Alphabet]:
    """Gathers the letters once: it is most of the time, and the same for every seed."""
    gathered = gather_alphabet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quickstudy.datasets.sources.glyphs.gather_alphabet", lambda: gathered)
        yield gathered


@pytest.fixture(scope="module")
def glyphs(alphabet: Alphabet) -> Glyphs:
    return draw_glyphs()


def ink_of(glyphs: Glyphs) -> np.ndarray:
    """Ink coverage [N, 28, 28], 0 to 1."""
    return 1 - glyphs.images[:, 0].astype(np.float32) / 255


def test_is_laid_out_as_promised(glyphs: Glyphs) -> None:
    assert glyphs.images.dtype == np.uint8
    assert glyphs.images.shape == (sum(glyphs.sizes), 1, 28, 28)
    assert set(glyphs.sizes) == {20}
    assert len(glyphs.sizes) == len(glyphs.class_names) >= 500
    assert len(set(glyphs.class_names)) == len(glyphs.class_names)
    assert {"Latin/capital letter a", "Greek/small letter alpha"} <= set(glyphs.class_names)


def test_splits_share_no_script_and_cover_all_classes(glyphs: Glyphs) -> None:
    assert list(glyphs.splits) == ["train", "validation", "test"]
    assert sum(glyphs.splits.values(), ()) == glyphs.class_names
    scripts = [{name.split("/")[0] for name in names} for names in glyphs.splits.values()]
    for own, other in itertools.combinations(scripts, 2):
        assert not own & other
    assert scripts == [set(table) for table in SCRIPTS.values()]
    assert len(scripts[2]) >= 3
    assert len(glyphs.splits["validation"]) >= 40
    assert len(glyphs.splits["test"]) >= 100


def test_no_placeholder_or_symbol_face_is_used() -> None:
    assert all(face.startswith(("DejaVuS", "STIXGeneral")) for face in FACES)
    assert not any("Display" in face or "LastResort" in face for face in FACES)


def test_every_picture_is_black_ink_on_white_inside_its_frame(glyphs: Glyphs) -> None:
    ink = ink_of(glyphs)
    share = ink.mean(axis=(1, 2))
    # The thinnest letter is a bare stroke, 17 pixels by 1: 2 %. The fattest fill their box, at most
    # 26 by 26 pixels, less than two thirds.
    assert share.min() > 0.015
    assert share.max() < 0.55
    assert 0.08 < share.mean() < 0.25
    border = np.concatenate((ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]), axis=1)
    # The warp may push a tip over the edge, now and then.
    assert (border.sum(axis=1) > 2).mean() < 0.03
    # Smooth edges: some pixels are neither ink nor paper.
    grey = (glyphs.images > 32) & (glyphs.images < 223)
    assert 0.02 < grey.mean() < 0.2


def test_pictures_of_a_class_differ(glyphs: Glyphs) -> None:
    for pictures in np.split(glyphs.images, len(glyphs.sizes)):
        assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)


def test_letters_that_look_alike_never_straddle_splits(alphabet: Alphabet) -> None:
    fields = alphabet.shapes.fields[[own[0] for own in alphabet.renderings]]
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    split = np.array([split_of[letter.script] for letter in alphabet.letters])
    straddles = split[:, None] != split[None, :]
    assert look_alike_distances(fields)[straddles].min() >= 0.08
    # A plainer measure, which the choice of letters did not use: overlap of the clean bitmaps.
    ink = (fields > 0).reshape(len(fields), -1).astype(np.float32)
    shared = ink @ ink.T
    overlap = shared / (ink.sum(axis=1)[:, None] + ink.sum(axis=1)[None, :] - shared)
    assert overlap[straddles].max() < 0.9


@pytest.mark.parametrize(
    "family", ["AΑАᴀꓮ𐌀", "OoΟοОоՕօⵔ", "CcСсϹ", "XxΧХх", "SsЅѕՏ", "HНΗꓧ", "UuՍսᑌ", "IlІΙו"]
)
def test_a_picture_has_one_class_however_many_letters_share_it(
    alphabet: Alphabet, family: str
) -> None:
    present = [letter for letter in alphabet.letters if letter.character in family]
    assert [letter.character for letter in present] == [family[0].upper()]


def test_letters_with_marks_are_not_classes(alphabet: Alphabet) -> None:
    characters = {letter.character for letter in alphabet.letters}
    assert {"e", "Ж", "א", "ა"} <= characters
    assert not characters & set("éêøłйἄآﬁᵃ𝔸ⅷ")


def test_the_same_seed_draws_the_same_in_any_process() -> None:
    drawn = draw_glyphs(seed=3, per_class=4, classes_per_split=12)
    script = (
        "import hashlib; from quickstudy.datasets.sources.glyphs import draw_glyphs; "
        "g = draw_glyphs(seed=3, per_class=4, classes_per_split=12); "
        "print(hashlib.sha256(g.images.tobytes() + repr(g.splits).encode()).hexdigest())"
    )
    # Another number of threads than this process is likely to have: it may not matter.
    environment = os.environ | {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    digest = hashlib.sha256(drawn.images.tobytes() + repr(drawn.splits).encode()).hexdigest()
    assert other.stdout.strip() == digest


def test_a_part_has_the_images_of_the_whole(glyphs: Glyphs) -> None:
    part = draw_glyphs(classes_per_split=5)
    assert [len(names) for names in part.splits.values()] == [5, 5, 5]
    for name, pictures in zip(part.class_names, np.split(part.images, 15), strict=True):
        position = glyphs.class_names.index(name)
        assert np.array_equal(pictures, glyphs.images[20 * position : 20 * (position + 1)])


def test_another_seed_draws_other_pictures_of_the_same_letters(glyphs: Glyphs) -> None:
    other = draw_glyphs(seed=1, per_class=3, classes_per_split=4)
    first = [glyphs.class_names.index(name) * 20 for name in other.class_names]
    ours = glyphs.images[np.add.outer(first, np.arange(3)).reshape(-1)]
    assert not (other.images == ours).all(axis=(1, 2, 3)).any()


def test_raw_pixels_do_not_solve_the_task(glyphs: Glyphs) -> None:
    ink = ink_of(glyphs).reshape(len(glyphs.sizes), 20, -1)
    classes = [glyphs.class_names.index(name) for name in glyphs.splits["test"]]
    random = np.random.default_rng(0)
    correct = []
    for _ in range(200):
        ways = random.choice(classes, 5, replace=False)
        order = random.permutation(20)
        support, query = ink[ways, order[0]], ink[ways][:, order[1:]]
        distance = ((query[:, :, None] - support[None, None]) ** 2).sum(axis=-1)
        correct.append((distance.argmin(axis=-1) == np.arange(5)[:, None]).mean())
    # Far above chance (0.2), far below what a learned embedding reaches (0.9 and more).
    assert 0.4 < np.mean(correct) < 0.7


def test_distance_fields_measure_a_bar() -> None:
    coverage = np.zeros((1, 64, 64), dtype=np.uint8)
    coverage[0, 20:26, 10:54] = 255
    shapes = shapes_of(coverage)
    # Six pixels wide: rows 20 to 25, the outline half a pixel beyond the outer centres.
    column = shapes.fields[0, :, 32] / 16
    assert column[19:27].tolist() == [-0.5, 0.5, 1.5, 2.5, 2.5, 1.5, 0.5, -0.5]
    assert column[14] == -5.5
    assert column[0] <= -FIELD_REACH + 0.5
    assert shapes.extents[0].tolist() == [44, 6]
    assert shapes.half_hairlines[0] == 2.5
    # Exact for an endless bar; the ends make it a little less.
    assert shapes.half_strokes[0] == pytest.approx(3, rel=0.1)


def test_rendering_fills_the_same_box_for_every_letter() -> None:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{FACES[0]}.ttf"
    rendered = render_letters(path, ["A", "ꙮ", "ا", "ᚁ"])
    for coverage in rendered:
        rows, columns = np.nonzero(coverage)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 48
    assert (rendered.max(axis=(1, 2)) > 200).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"seed": -1}, "seed"),
        ({"per_class": 0}, "per_class"),
        ({"classes_per_split": 0}, "classes_per_split"),
    ],
)
def test_refuses_what_makes_no_sense(arguments: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        draw_glyphs(**arguments)


def test_the_catalogue_knows_how_many_there_are(glyphs):
    from quickstudy.datasets.sources.catalogue import BENCHMARKS

    assert BENCHMARKS["glyphs"].classes == len(glyphs.class_names)
    assert BENCHMARKS["glyphs"].examples_per_class == glyphs.sizes[0]
