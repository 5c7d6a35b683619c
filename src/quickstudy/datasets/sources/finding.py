"""Finds the raw examples for the arguments of ``load_dataset``."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from quickstudy.datasets.decoded.decoding import RawExamples
from quickstudy.datasets.sources.catalogue import ALIASES, BENCHMARKS, DATA_VARIABLE, Benchmark
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.described import DescribedFolder, described_files
from quickstudy.datasets.sources.folder import ClassFolders
from quickstudy.datasets.sources.hub import LocalRepository, find_on_hub
from quickstudy.datasets.sources.listing import Listing, is_about_the_data, list_folder
from quickstudy.datasets.sources.splits import split_of
from quickstudy.datasets.sources.tables import TABLE_ENDINGS, TableFiles
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs.modalities import modality_of_file
from quickstudy.inputs.unreadable import what_to_do_about
from quickstudy.messages import did_you_mean
from quickstudy.saving.hub import is_hub_id

logger = logging.getLogger(__name__)

GLYPHS_SEED = 0
GLYPHS_PER_CLASS = 20


class Source(Protocol):
    """Where raw examples come from."""

    def modality(self) -> str:
        """Their modality; quick to find out, at least the second time."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Value that changes whenever the raw examples change; quick to compute."""
        ...

    def notes(self, modality: str) -> Sequence[str]:
        """Warnings for every time they are read, cached or not; quick to compute."""
        ...

    def splits(self, modality: str) -> Sequence[str]:
        """The names of the splits, such as train and test, that hold labelled examples."""
        ...

    def chosen(self, split: str) -> Source:
        """The same source with only the examples of some splits, joined by "+".

        Raises:
            ValueError: there are no such splits; raised here or when they are read.
        """
        ...

    def read(self, modality: str) -> AbstractContextManager[RawExamples]:
        """Opens the raw examples, taken for inputs of this modality."""
        ...


class DrawnGlyphs:
    """The built-in letters, as a source."""

    def modality(self) -> str:
        """Images."""
        return "image"

    def identity(self) -> dict[str, Any]:
        """The code and the fonts that they are drawn with."""
        folder = Path(__file__).parent
        files = [folder / f"{name}.py" for name in ("glyphs", "glyph_drawing")]
        code = b"".join(file.read_bytes() for file in files)
        return {
            "seed": GLYPHS_SEED,
            "per_class": GLYPHS_PER_CLASS,
            "code": hashlib.blake2b(code, digest_size=16).hexdigest(),
            "fonts": version("matplotlib"),
        }

    def notes(self, modality: str) -> Sequence[str]:
        """None."""
        return ()

    def splits(self, modality: str) -> Sequence[str]:
        """None; the alphabets make a split."""
        return ()

    def chosen(self, split: str) -> DrawnGlyphs:
        """Refuses, because glyphs has no splits."""
        raise InputError(f"glyphs has no split {split!r}; it has no splits at all.")

    @contextmanager
    def read(self, modality: str) -> Iterator[RawExamples]:
        """Draws them."""
        from quickstudy.datasets.sources.glyphs import draw_glyphs

        logger.info("Drawing the letters of glyphs, once (some seconds) ...")
        drawn = draw_glyphs(seed=GLYPHS_SEED, per_class=GLYPHS_PER_CLASS)
        images = [image[0] for image in drawn.images]

        def rows(start: int) -> Iterator[tuple[str, Any]]:
            for number, image in enumerate(images[start:], start):
                yield f"Glyph {number}", image

        (split,) = BENCHMARKS["glyphs"].splits
        yield RawExamples(drawn.class_names, drawn.sizes, rows, {split: drawn.splits})


def find_source(
    source: str | Path, benchmark: Benchmark | None, columns: Columns
) -> tuple[Source, Path | None]:
    """The source of the raw examples, and the folder in which to look for ``class_splits.json``.

    Raises:
        FileNotFoundError: there is nothing of this name, or the hub cannot be reached.
        ValueError: if the source is not a data set.
    """
    if benchmark:
        return _find_benchmark(benchmark, columns)
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, columns)
    if path.exists():
        if path.suffix.lower() not in TABLE_ENDINGS:
            advice = what_to_do_about([path.name])
            raise InputError(
                f"{source} is a file, but not a table ({', '.join(TABLE_ENDINGS)}); give a table, "
                f"a folder, a benchmark's name or owner/name.{advice}"
            )
        return TableFiles([path], columns=columns), path.parent
    if isinstance(source, str) and is_hub_id(source):
        repository = find_on_hub(source, columns)
        return repository, repository.folder
    known = [*BENCHMARKS, *ALIASES]
    if isinstance(source, Path) or os.sep in source or "/" in source:
        raise MissingFileError(
            f"There is no folder {str(source)!r}. Check the path, or name one of the data sets: "
            f"{', '.join(known)}."
        )
    meant = did_you_mean(source.lower(), known, str, most=2)
    raise MissingFileError(
        f"There is no data set and no folder named {source!r}.{meant} The data sets are "
        f"{', '.join(known)}; else give a path to a folder or a table, or owner/name on the "
        "Hugging Face hub."
    )


def _find_benchmark(benchmark: Benchmark, columns: Columns) -> tuple[Source, Path | None]:
    if benchmark.built_in:
        return DrawnGlyphs(), None
    usual = benchmark.configurations.get(columns.configuration or "", benchmark.columns)
    columns = Columns(
        columns.input or usual.input,
        columns.label or usual.label,
        columns.configuration or usual.configuration,
    )
    folder = benchmark.local_folder()
    if folder:
        return _in_folder(folder, columns)
    data = os.environ.get(DATA_VARIABLE)
    tried = f"not in {Path(data) / benchmark.name}" if data else f"{DATA_VARIABLE} is not set"
    advice = (
        f"Put a folder {benchmark.name!r} with its parquet files and class_splits.json (columns "
        f"{columns.input!r} and {columns.label!r}) in a folder of data, and name that folder in "
        f"the environment variable {DATA_VARIABLE}."
    )
    if benchmark.repository is None:
        raise MissingFileError(
            f"{benchmark.name} was not found on this machine ({tried}), and no repository of the "
            f"Hugging Face hub is known for it. {advice}"
        )
    try:
        repository = find_on_hub(benchmark.repository, columns)
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{benchmark.name} was not found on this machine ({tried}). {error} {advice}"
        ) from error
    return repository, repository.folder


def _in_folder(folder: Path, columns: Columns) -> tuple[Source, Path]:
    """The examples in a folder, and the folder that holds them: this one or its only sub-folder."""
    listing = _without_wrapping(list_folder(folder))
    if _is_repository(listing):
        return LocalRepository(listing, columns=columns), listing.folder
    class_folders = ClassFolders(listing)
    if metadata := described_files(listing):
        described = DescribedFolder(listing, metadata, columns=columns)
        if columns != Columns() or not class_folders.holds_classes or described.says_classes():
            return described, listing.folder
    # Files ending in .json beside data are rarely tables.
    tables = [
        listing.folder / file.path
        for file in listing.files
        if "/" not in file.path and file.path.lower().endswith((".csv", ".tsv", ".jsonl"))
    ]
    if tables and not class_folders.looks_right:
        return TableFiles(tables, columns=columns), listing.folder
    return class_folders, listing.folder


def _without_wrapping(listing: Listing) -> Listing:
    """The contents of the folder that holds all data, which may be nested, as in unpacked archives.

    The search descends into the only sub-folder with something to read, unless that sub-folder is a
    class (it holds files) or a split (its name is train, for example).
    """
    while True:
        data = [file for file in listing.files if _is_data(file.path)]
        tops = {file.path.partition("/")[0] if "/" in file.path else "" for file in data}
        if len(tops) != 1 or tops == {""} or split_of(*tops) or _is_repository(listing):
            return listing
        inner = listing.inside(*tops)
        directly = [file.path for file in inner.files if "/" not in file.path]
        is_class = any(modality_of_file(path) and not is_about_the_data(path) for path in directly)
        if is_class and not described_files(inner):
            return listing
        listing = inner


def _is_data(path: str) -> bool:
    if path.lower().endswith(TABLE_ENDINGS):
        return "/" not in path or not path.lower().endswith(".json")
    return modality_of_file(path) is not None and not ("/" not in path and is_about_the_data(path))


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
