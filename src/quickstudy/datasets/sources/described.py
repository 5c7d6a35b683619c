"""Folders of images or sounds whose classes are in a table beside them, as on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quickstudy.datasets.sources.columns import Tables, find_columns
from quickstudy.datasets.sources.listing import Listing
from quickstudy.datasets.sources.notes import remembered
from quickstudy.datasets.sources.rows import raw_examples, without_bars
from quickstudy.datasets.sources.splits import split_of
from quickstudy.datasets.sources.table import LibraryTable, Table
from quickstudy.datasets.sources.tables import (
    TableSource,
    file_digest,
    named_files,
    read_table,
    state,
)
from quickstudy.inputs.modalities import MODALITIES, is_text, modality_of_file

METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.tsv")
"""The file names that the library ``datasets`` looks for."""

_PATH_COLUMNS = ("file_name", "file_path", "filename", "path", "file")


def described_files(listing: Listing) -> list[str]:
    """The paths of the tables in a folder that list the classes of the files beside them."""
    return [
        file.path
        for file in listing.files
        if PurePosixPath(file.path).name.lower() in METADATA_FILES
    ]


@dataclass(frozen=True)
class DescribedFolder(TableSource):
    """Files that ``metadata.csv`` (or .jsonl, .tsv) in their folder names, one row each.

    There is one such table at the top, or one in each split. A column called ``file_name``, or
    whose name ends in it, holds paths relative to the table's folder. The folders of the files
    determine the splits.

    Args:
        listing: the contents of the folder.
        files: the paths of the tables in it.
    """

    listing: Listing
    files: Sequence[str]

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.listing.folder

    def identity(self) -> dict[str, Any]:
        """All that the raw examples depend on: the tables, and sizes and times of their files."""
        own = {
            "described": [[path, file_digest(self.folder / path)] for path in self.files]
        } | self.wanted
        named = remembered({"files of": own, "folder": str(self.folder.resolve())}, self._named)
        return own | {"files": [[path, *state(self.folder / path)] for path in named]}

    @contextmanager
    def opened(self) -> Iterator[Tables]:
        """The tables, one for each split."""
        splits: dict[str, Table] = {}
        for path in self.files:
            inside = str(PurePosixPath(path).parent)
            table = _relative_to_top(read_table(self.folder / path), inside)
            splits |= _by_split(table, inside if inside != "." else PurePosixPath(path).stem)
        yield Tables(splits, str(self.folder), self.folder, [self.folder])

    def notes(self, modality: str) -> Sequence[str]:
        """How many files beside the tables have no row in them."""
        named = set(remembered({"named by": self.identity(), "for": "notes"}, self._named))
        without = [
            file.path
            for file in self.listing.files
            if modality_of_file(file.path) == modality and file.path not in named
        ]
        if not without or is_text(modality):
            return []
        return [
            f"{len(without)} {MODALITIES[modality].nouns} in {self.folder} have no row in "
            f"{' or '.join(self.files)} and are left out: {without[0]!r} is the first."
        ]

    def says_classes(self) -> bool:
        """Whether the tables have columns of files and of classes."""
        with self.opened() as tables:
            try:
                found = find_columns(tables, self.columns, None)
                raw_examples(tables, self.columns, self.rows, None)
            except ValueError:
                return False
            return found.held.are_paths

    def _named(self) -> list[str]:
        with self.opened() as tables:
            return named_files(tables)


def _relative_to_top(table: Table, folder: str) -> LibraryTable:
    """A table whose paths are relative to the top folder and not to its own."""
    assert isinstance(table, LibraryTable)  # these tables are never parquet files
    columns = [
        column
        for column in table.features
        if column.lower() in _PATH_COLUMNS or column.lower().endswith("file_name")
    ]

    def moved(batch: dict[str, Any]) -> dict[str, Any]:
        start = "" if folder == "." else f"{folder}/"
        return {
            column: [
                value and start + value.replace("\\", "/").removeprefix("./")
                for value in batch[column]
            ]
            for column in columns
        }

    plain = table.table.with_format(None)
    if columns:
        with without_bars():
            plain = plain.map(moved, batched=True, keep_in_memory=True)
    return LibraryTable(plain)


def _by_split(table: LibraryTable, name: str) -> dict[str, Table]:
    """A table for each split that its files' folders name; the whole table if they name none."""
    column = next((each for each in table.features if each.lower() in _PATH_COLUMNS), None)
    if column is None:
        return {name: table}
    plain = table.table.with_format(None)
    tops = [(path or "").partition("/")[0] if "/" in (path or "") else "" for path in plain[column]]
    if not all(map(split_of, tops)):
        return {name: table}
    return {
        top: LibraryTable(plain.select([row for row, own in enumerate(tops) if own == top]))
        for top in sorted({*tops})
    }
