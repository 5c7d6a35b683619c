"""Inputs to be classified: files, folders, texts, tables and lines, read as they are needed."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.datasets.sources.listing import counted_endings, is_about_the_data, list_folder
from quickstudy.datasets.sources.streaming import (
    column_of,
    number_of_rows,
    table_cells,
    table_columns,
)
from quickstudy.datasets.sources.tables import TABLE_ENDINGS, file_digest, state
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs.modalities import MODALITIES, modality_of_file
from quickstudy.inputs.unreadable import what_to_do_about

STANDARD_INPUT = "-"

Named = tuple[str, Any]
"""The name of an input, and the input as the classifier takes it."""


@dataclass(frozen=True)
class Table:
    """A column of a table.

    Args:
        path: path of the table.
        column: the column that holds the inputs.
    """

    path: Path
    column: str


@dataclass(frozen=True)
class Incoming:
    """The inputs of a command; tables and standard input are read later.

    Args:
        sources: texts, paths of files, tables, and "-" for standard input as its own object.
        modality: modality of the inputs that the classifier reads.
    """

    sources: Sequence[str | Path | Table | None]
    modality: str

    def total(self) -> int | None:
        """The number of inputs; None if it is known only after reading them."""
        counts = [number_of_rows(each.path) for each in self.sources if isinstance(each, Table)]
        if None in self.sources or None in counts:
            return None
        others = sum(not isinstance(each, Table) for each in self.sources)
        return others + sum(count or 0 for count in counts)

    def identity(self) -> str:
        """A digest of the inputs, except for lines of standard input."""
        told: list[Any] = []
        for each in self.sources:
            if isinstance(each, Table):
                told.append(["table", each.column, file_digest(each.path)])
            elif isinstance(each, Path):
                told.append(["file", str(each), *state(each)])
            else:
                told.append(["text", each])
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    def each(self, lines: Iterable[Sequence[str]]) -> Iterator[Named | None]:
        """Yields the inputs one by one, and None when the next can take long to arrive.

        Args:
            lines: of standard input, as many at a time as there are; each a text, or else a path.

        Raises:
            MissingFileError: when a line or a table names a file that is not there.
        """
        for source in self.sources:
            if isinstance(source, Table):
                cells = table_cells(source.path, source.column, self.modality)
                yield from _called(source.path, cells)
            elif source is None:
                for several in lines:
                    for line in several:
                        if line.strip():
                            yield self._of_line(line.rstrip("\r\n"))
                    yield None
            else:
                yield str(source), source

    def _of_line(self, line: str) -> Named:
        return line, line if self.modality == "text" else _existing(Path(line), self.modality)


def incoming(words: Sequence[str], modality: str, input_column: str | None = None) -> Incoming:
    """Finds the inputs that somebody names.

    Args:
        words: paths of files, folders and tables (CSV, TSV, JSON lines, parquet); of texts also the
            texts themselves; "-" for standard input.
        modality: modality of the inputs that the classifier reads.
        input_column: input column of the tables; by default the only or a usual one.

    Raises:
        MissingFileError: when there is no such file.
        InputError: when nothing is found, or it is not clear which column of a table is meant.
    """
    sources: list[str | Path | Table | None] = []
    for word in words:
        if word == STANDARD_INPUT:
            sources.append(None)
        elif not word.strip():
            raise InputError("One of the inputs is empty; leave it out or write something.")
        elif modality == "text" and not _is_path(word):
            sources.append(word)
        elif Path(word).is_dir():
            sources += _files_in(Path(word), modality)
        elif Path(word).suffix.lower() in TABLE_ENDINGS and Path(word).is_file():
            path = Path(word)
            column = column_of(path, table_columns(path), modality, input_column)
            sources.append(Table(path, column))
        else:
            sources.append(_existing(Path(word), modality))
    if not sources:
        raise InputError("There is nothing to classify: no inputs were given.")
    if input_column is not None and not any(isinstance(each, Table) for each in sources):
        raise InputError(
            f"A column {input_column!r} was named for the inputs, but none of them is a table."
        )
    return Incoming(sources, modality)


def in_groups(inputs: Iterable[Named | None], at_most: int | None) -> Iterator[list[Named]]:
    """Groups inputs; a group ends when the next input can take long to arrive.

    Args:
        inputs: as :meth:`Incoming.each` yields them.
        at_most: inputs in a group; None for all in one.
    """
    group: list[Named] = []
    for each in inputs:
        if each is not None:
            group.append(each)
        if group and at_most is not None and (each is None or len(group) == at_most):
            yield group
            group = []
    if group:
        yield group


def _called(table: Path, cells: Iterable[Any]) -> Iterator[Named]:
    for number, cell in enumerate(cells):
        if isinstance(cell, Path):
            yield str(cell), cell
        else:
            yield (cell if isinstance(cell, str) else f"row {number} of {table}"), cell


def _existing(path: Path, modality: str) -> Path:
    if not path.is_file():
        hint = (
            f" To classify this as text, pipe it in: echo {str(path)!r} | quickstudy predict FILE -"
            if modality == "text"
            else ""
        )
        raise MissingFileError(f"There is no file {str(path)!r}.{hint}")
    return path


def _is_path(word: str) -> bool:
    """Whether it names something that is there, or is meant to: no blanks, and ends as files do."""
    if os.path.exists(word):  # noqa: PTH110 # Path.exists would raise where it is too long
        return True
    ends_so = modality_of_file(word) is not None or Path(word).suffix.lower() in TABLE_ENDINGS
    return ends_so and len(word.split()) == 1


def _files_in(folder: Path, modality: str) -> list[Path]:
    """The files of one modality in a folder; a warning counts the others."""
    found, left = [], []
    for file in list_folder(folder).files:
        if modality_of_file(file.path) == modality:
            found.append(folder / file.path)
        elif not is_about_the_data(file.path):
            left.append(file.path)
    holds = f"It holds {counted_endings(left)}.{what_to_do_about(left)}" if left else ""
    nouns = MODALITIES[modality].nouns
    if not found:
        raise InputError(f"The folder {folder} holds no {nouns}. {holds}".rstrip())
    if left:
        warnings.warn(
            f"{len(left)} files in the folder {folder} cannot be read as {nouns} and are left out "
            f"({counted_endings(left)}): {left[0]!r} is the first.{what_to_do_about(left)}",
            stacklevel=3,
        )
    return found
