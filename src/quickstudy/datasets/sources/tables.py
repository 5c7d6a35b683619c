"""Tables as sources of examples: single files, or a folder of them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from quickstudy.datasets.decoded.decoding import RawExamples
from quickstudy.datasets.sources.columns import (
    Columns,
    Tables,
    find_columns,
    held_by_columns,
)
from quickstudy.datasets.sources.notes import remembered
from quickstudy.datasets.sources.rows import (
    Rows,
    file_inside,
    labelled_splits,
    raw_examples,
)
from quickstudy.datasets.sources.table import LibraryTable, ParquetTable, Table, unique_values
from quickstudy.datasets.sources.table_splits import of_split
from quickstudy.errors import InputError
from quickstudy.messages import reason

TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_LONGEST_HEADER_BYTES = 2**20
SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, kw_only=True)
class TableSource(ABC):
    """Examples in tables.

    Args:
        columns: where the inputs and labels are.
        rows: which examples are wanted.
    """

    columns: Columns = field(default_factory=Columns)
    rows: Rows = field(default_factory=Rows)

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Identifies the raw examples."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[Tables]:
        """The tables themselves."""

    @property
    def wanted(self) -> dict[str, Any]:
        """Which columns and rows, JSON-ready; these keys are in the names of cache files."""
        rows = {"data_split": self.rows.split, "where": self.rows.where}
        return {"columns": vars(self.columns), "rows": rows}

    def modality(self) -> str:
        """The modality of the inputs, according to the columns.

        Raises:
            ValueError: it is not clear which column holds them.
        """

        def look() -> str:
            with self.opened() as tables:
                chosen = of_split(tables, self.rows.split)
                return find_columns(chosen, self.columns, None).held.modality

        return str(remembered({"kind of": self.identity()}, look))

    def notes(self, modality: str) -> Sequence[str]:
        """None; warnings about tables come with their rows."""
        return ()

    def splits(self, modality: str) -> Sequence[str]:
        """The names of the splits, such as train and test, that have labelled rows.

        Raises:
            ValueError: as :func:`raw_examples`.
        """
        with self.opened() as tables:
            return labelled_splits(tables, self.columns, self.rows, modality)

    def chosen(self, split: str) -> Self:
        """The same tables with only the rows of some splits; see :class:`Source`."""
        return replace(self, rows=replace(self.rows, split=split))

    @contextmanager
    def read(self, modality: str) -> Iterator[RawExamples]:
        """The examples of the splits that are wanted, together.

        Few-shot splits are by class.
        """
        with self.opened() as tables:
            yield raw_examples(tables, self.columns, self.rows, modality)


@dataclass(frozen=True)
class TableFiles(TableSource):
    """Files of tables: CSV, TSV, JSON, JSON lines or parquet, each a split of the file's name.

    Columns hold texts, or paths of files relative to the table's folder, which they must not leave.

    Args:
        files: the tables' files, in one folder.
    """

    files: Sequence[Path]

    @property
    def folder(self) -> Path:
        """Where the tables lie."""
        return self.files[0].parent

    def identity(self) -> dict[str, Any]:
        """Identifies the raw examples by the tables, and by the files that they name."""
        own = {"tables": [[file.name, file_digest(file)] for file in self.files]} | self.wanted
        # Other tables of the same content can lie beside other files.
        named = remembered({"files of": own, "folder": str(self.folder.resolve())}, self._named)
        return own | {"files": [[path, *state(self.folder / path)] for path in named]}

    @contextmanager
    def opened(self) -> Iterator[Tables]:
        """The tables, by their files' names."""
        stems = [file.stem for file in self.files]
        splits = {
            file.stem if stems.count(file.stem) == 1 else file.name: read_table(file)
            for file in self.files
        }
        name = str(self.files[0] if len(self.files) == 1 else self.folder)
        yield Tables(splits, name, self.folder, [self.folder])

    def _named(self) -> list[str]:
        """The files that the tables name."""
        with self.opened() as tables:
            return named_files(tables)


def named_files(tables: Tables) -> list[str]:
    """The files that tables name.

    Raises:
        ValueError: one of them is outside the tables' folder.
    """
    found: set[str] = set()
    for column, held in held_by_columns(tables).items():
        if held.are_paths:
            for table in tables.splits.values():
                if column in table.features:
                    found |= {path for path in unique_values(table, column) if path}
    for path in found:
        file_inside(path, tables.roots)
    return sorted(found)


def read_table(path: Path) -> Table:
    """A table from a file; texts and labels stay as they are written.

    Parquet is read when it is needed, a piece at a time; the other kinds of files are read whole.

    Args:
        path: the file.

    Raises:
        ValueError: the file is no such table; it is named.
    """
    import datasets

    table: Table
    try:
        ending = path.suffix.lower()
        if ending == ".parquet":
            table = ParquetTable([str(path)])
        else:
            separator = SEPARATORS.get(ending)
            table = LibraryTable(datasets.Dataset(_read(path, separator)))
        empty = not len(table)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise InputError(
            f"The table {path} cannot be read: {reason(error)} A table is in UTF-8 and says its "
            "columns' names: in the first line (.csv, .tsv), in each line (.jsonl) or as parquet."
        ) from error
    if empty:
        raise InputError(f"The table {path} has no rows.")
    return table


def _read(path: Path, separator: str | None) -> Any:
    if separator is None:
        return _read_json(path)
    with opened_separated(path, separator) as reader:
        return reader.read_all()


def _read_json(path: Path) -> Any:
    """A list of objects, an object of columns, or an object a line."""
    import pyarrow as pa  # type: ignore[import-untyped]

    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            content = None  # lines, perhaps
        if isinstance(content, list):
            return _of_rows(content)
        if isinstance(content, dict) and all(isinstance(each, list) for each in content.values()):
            return pa.table(content)
    return _of_rows([json.loads(line) for line in text.split("\n") if line.strip()])


def _of_rows(rows: list[Any]) -> Any:
    import pyarrow as pa

    if not all(isinstance(row, dict) for row in rows):
        raise InputError("not every row is an object, {column: value}")
    names = dict.fromkeys(name for row in rows for name in row)  # pyarrow looks at the first only
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def opened_separated(path: Path, separator: str) -> Any:
    """A reader of a file of separated values, which yields some rows at a time; to be closed."""
    import pyarrow as pa
    from pyarrow import csv

    if separator == ",":
        with path.open("rb") as file:
            header = file.readline(_LONGEST_HEADER_BYTES)
        if b";" in header and b"," not in header:  # as where the comma is a decimal point
            separator = ";"
    parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    with csv.open_csv(path, parse_options=parsing) as reader:
        names = reader.schema.names
    # "01", "NA" and "true" are labels and texts here, not numbers, gaps and booleans.
    as_written = csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        null_values=[""],
        strings_can_be_null=True,
    )
    return csv.open_csv(path, parse_options=parsing, convert_options=as_written)


def file_digest(path: Path) -> str:
    """A digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def state(path: Path) -> list[int]:
    """A file's size and time of change; empty if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return []  # reading will say that it is not there
    return [status.st_size, status.st_mtime_ns]
