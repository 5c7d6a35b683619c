"""``load_dataset``: a name, a folder or a repository of the hub to a ``ClassDataset``."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from quickstudy.datasets.cache import load_or_decode
from quickstudy.datasets.catalogue import ALIASES, BENCHMARKS, DATA_VARIABLE, PHOTOGRAPHS, Benchmark
from quickstudy.datasets.columns import Columns
from quickstudy.datasets.dataset import ClassDataset
from quickstudy.datasets.decoding import RawExamples, Splits, Unreadable
from quickstudy.datasets.folder import (
    ImageFolder,
    Listing,
    check_class_splits,
    list_folder,
    read_class_splits,
)
from quickstudy.datasets.hub import LocalRepository, find_on_hub
from quickstudy.inputs import Inputs

GLYPHS_SEED = 0
GLYPHS_PER_CLASS = 20


class _Source(Protocol):
    """Where raw examples come from."""

    def identity(self) -> Mapping[str, Any]:
        """What the raw examples follow from; quick to find out."""
        ...

    def read(self) -> AbstractContextManager[RawExamples]:
        """Opens the raw examples."""
        ...


class _DrawnGlyphs:
    """The built-in letters, as a source."""

    def identity(self) -> dict[str, Any]:
        folder = Path(__file__).parent
        files = [folder / f"{name}.py" for name in ("glyphs", "glyph_drawing")]
        code = b"".join(file.read_bytes() for file in files)
        return {
            "seed": GLYPHS_SEED,
            "per_class": GLYPHS_PER_CLASS,
            "code": hashlib.blake2b(code, digest_size=16).hexdigest(),
            "fonts": version("matplotlib"),
        }

    @contextmanager
    def read(self) -> Iterator[RawExamples]:
        from quickstudy.datasets.glyphs import draw_glyphs

        print("Drawing the letters of glyphs, once (some seconds) ...", file=sys.stderr)
        drawn = draw_glyphs(seed=GLYPHS_SEED, per_class=GLYPHS_PER_CLASS)
        rows = ((f"Glyph {number}", image[0]) for number, image in enumerate(drawn.images))
        (split,) = BENCHMARKS["glyphs"].splits
        yield RawExamples(drawn.class_names, drawn.sizes, rows, {split: drawn.splits})


def load_dataset(
    source: str | Path,
    *,
    rotations: bool | None = None,
    inputs: Inputs | None = None,
    unreadable: Unreadable = "refuse",
    image_column: str | None = None,
    label_column: str | None = None,
    configuration: str | None = None,
) -> ClassDataset:
    """Loads examples grouped by class; decoded the first time, from a cache file ever after.

    Args:
        source: one of

            - a benchmark's name (see ``available_datasets``): read from the folder
              ``$QUICKSTUDY_DATA/<name>`` where there is one, else downloaded;
            - a path to a folder of images, one sub-folder a class;
            - a path to a folder laid out like a repository of the Hugging Face hub (parquet files,
              or a card ``README.md``); all its data splits are pooled;
            - a repository of the hub, ``"owner/name"``, that is not an existing path.

            A folder's ``class_splits.json``, ``{split: {part: [class names]}}``, gives the data's
            published splits. A folder with the name of a benchmark is written ``"./name"``.
        rotations: whether to make four classes of each by quarter turns; by default as the
            benchmark's protocol has it (Omniglot: yes), else no.
        inputs: how raw images become tensors; by default the benchmark's own, and for other data
            84x84 RGB with ImageNet's channel statistics. Give those of a trained run to evaluate it
            on other data.
        unreadable: whether an image that cannot be decoded is an error ("refuse") or is left out
            with a warning ("skip").
        image_column: the column of images, where it cannot be told (repositories only).
        label_column: the column of class labels, where it cannot be told (repositories only).
        configuration: which of a repository's several data sets.

    Returns:
        The data set; its examples are uint8 ``[N, channels, size, size]``.

    Raises:
        FileNotFoundError: there is nothing of this name, or the hub cannot be reached.
        ValueError: the data or their ``class_splits.json`` cannot be made sense of.
        UnreadableError: an image cannot be decoded (a ValueError too).
    """
    if unreadable not in ("refuse", "skip"):
        raise ValueError(f'unreadable is {unreadable!r}; it must be "refuse" or "skip".')
    columns = Columns(image_column, label_column, configuration)
    name, default_split = ALIASES.get(str(source), (str(source), None))
    benchmark = BENCHMARKS.get(name) if isinstance(source, str) else None
    place, folder = _find(source, benchmark, columns)
    if isinstance(place, _DrawnGlyphs | ImageFolder) and columns != Columns():
        raise ValueError(
            f"{source} is not a repository of the hub, nor laid out like one, so it has no columns "
            "or configurations to choose."
        )
    default: Inputs = benchmark.inputs if benchmark else PHOTOGRAPHS
    if inputs is None:
        inputs = default
    if inputs.kind != default.kind:
        raise ValueError(
            f"{source} is data of kind {default.kind!r}; inputs of kind {inputs.kind!r} cannot "
            "read it."
        )
    own_name = benchmark.name if benchmark else _short_name(source)
    decoded = load_or_decode(own_name, place.identity(), inputs, place.read, unreadable)
    # Divisions beside the data count before those that a catalogue remembers.
    splits = dict(benchmark.class_splits if benchmark else {}) | dict(decoded.splits)
    if folder:
        written = read_class_splits(folder)
        check_class_splits(folder, written, decoded.class_names)
        splits |= written
    dataset = ClassDataset.contiguous(
        decoded.examples,
        decoded.sizes,
        decoded.class_names,
        inputs,
        str(source) if benchmark else own_name,
        _in_order(splits, default_split, benchmark),
    )
    turned = bool(benchmark and benchmark.rotations) if rotations is None else rotations
    return dataset.expand() if turned else dataset


def _find(
    source: str | Path, benchmark: Benchmark | None, columns: Columns
) -> tuple[_Source, Path | None]:
    """Where the raw examples are, and the folder that ``class_splits.json`` may lie in."""
    if benchmark:
        return _find_benchmark(benchmark, columns)
    path = Path(source).expanduser()
    if path.is_dir():
        place = _in_folder(path, columns)
        return place, path
    if path.exists():
        raise ValueError(
            f"{source} is a file; a folder, a benchmark's name or owner/name is needed."
        )
    if isinstance(source, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source):
        try:
            repository = find_on_hub(source, columns)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"There is no folder {source!r} here. {error}") from error
        return repository, repository.folder
    known = [*BENCHMARKS, *ALIASES]
    if isinstance(source, Path) or os.sep in source or "/" in source:
        raise FileNotFoundError(
            f"There is no folder {str(source)!r}. Check the path, or name one of the data sets: "
            f"{', '.join(known)}."
        )
    near = difflib.get_close_matches(source.lower(), known, n=2)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise FileNotFoundError(
        f"There is no data set and no folder named {source!r}.{meant} The data sets are "
        f"{', '.join(known)}; else give a path to a folder, or owner/name on the Hugging Face hub."
    )


def _find_benchmark(benchmark: Benchmark, columns: Columns) -> tuple[_Source, Path | None]:
    if benchmark.built_in:
        return _DrawnGlyphs(), None
    usual = benchmark.columns
    columns = Columns(
        columns.image or usual.image,
        columns.label or usual.label,
        columns.configuration or usual.configuration,
    )
    folder = benchmark.local_folder()
    if folder:
        return _in_folder(folder, columns), folder
    data = os.environ.get(DATA_VARIABLE)
    tried = f"not in {Path(data) / benchmark.name}" if data else f"{DATA_VARIABLE} is not set"
    advice = (
        f"Put a folder {benchmark.name!r} with its parquet files and class_splits.json (columns "
        f"{columns.image!r} and {columns.label!r}) in a folder of data, and name that folder in "
        f"the environment variable {DATA_VARIABLE}."
    )
    if benchmark.repository is None:
        raise FileNotFoundError(
            f"{benchmark.name} was not found on this machine ({tried}), and no repository of the "
            f"Hugging Face hub is known for it. {advice}"
        )
    try:
        repository = find_on_hub(benchmark.repository, columns)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{benchmark.name} was not found on this machine ({tried}). {error} {advice}"
        ) from error
    return repository, repository.folder


def _in_folder(folder: Path, columns: Columns) -> LocalRepository | ImageFolder:
    listing = list_folder(folder)
    if _is_repository(listing):
        return LocalRepository(listing, columns)
    return ImageFolder(listing)


def _is_repository(listing: Listing) -> bool:
    if any(file.path.endswith(".parquet") for file in listing.files):
        return True
    card = listing.folder / "README.md"
    if not card.is_file():
        return False
    # A card begins with settings between lines of dashes; other READMEs do not.
    settings = re.match(
        r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.S
    )
    return bool(settings and re.search(r"^(configs|dataset_info):", settings[1], re.M))


def _in_order(splits: Splits, first: str | None, benchmark: Benchmark | None) -> Splits:
    """The published splits, the default first."""
    usual = [first] if first else []
    usual += [split for split in (benchmark.splits if benchmark else ()) if split not in usual]
    order = [split for split in usual if split in splits]
    return {split: splits[split] for split in [*order, *(s for s in splits if s not in order)]}


def _short_name(source: str | Path) -> str:
    """What messages call data: ``owner/name`` as it is, a folder by its last name."""
    path = Path(source).expanduser()
    return path.resolve().name if path.is_dir() else str(source)
