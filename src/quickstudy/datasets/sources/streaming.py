"""One column of a table, a few rows at a time: tables can be larger than the memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from quickstudy.datasets.sources.columns import LABEL_COLUMNS, by_usual_names
from quickstudy.datasets.sources.rows import file_inside
from quickstudy.datasets.sources.tables import SEPARATORS, opened_separated
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import MODALITIES, is_text
from quickstudy.messages import did_you_mean, reason

ROWS_AT_ONCE = 1024

_BROKEN = (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError)


def table_columns(path: Path) -> list[str]:
    """The names of a table's columns.

    Raises:
        InputError: when it cannot be read as a table.
    """
    with _opened(path) as (names, _):
        return names


def column_of(path: Path, names: Sequence[str], modality: str, wanted: str | None) -> str:
    """The column that holds the inputs.

    Args:
        path: path of the table, for messages.
        names: names of its columns.
        modality: modality of the inputs.
        wanted: the column that was named; None for the only one beside labels, or a usual name.

    Raises:
        InputError: when there is no such column, or it is not clear which one is meant.
    """
    listed = f"Its columns are {', '.join(names)}."
    if wanted is not None:
        if wanted not in names:
            near = did_you_mean(wanted, names)
            raise InputError(f"{path} has no column {wanted!r}.{near} {listed}")
        return wanted
    candidates = [name for name in names if name.lower() not in LABEL_COLUMNS] or list(names)
    if len(candidates) == 1:
        return candidates[0]
    usual = by_usual_names(candidates, MODALITIES[modality].columns)
    if not usual:
        raise InputError(
            f"It is not clear which column of {path} holds the inputs. {listed} Name it with "
            "--input-column."
        )
    return usual[0]


def number_of_rows(path: Path) -> int | None:
    """The number of rows, where the table states it."""
    if path.suffix.lower() != ".parquet":
        return None
    from pyarrow import parquet  # type: ignore[import-untyped]

    return int(parquet.read_metadata(path).num_rows)


def table_cells(path: Path, column: str, modality: str) -> Iterator[Any]:
    """The cells of one column: texts, contents of files (bytes), or paths of files.

    Paths are relative to the table's folder, which they must not leave. An empty cell is an empty
    text, or a file without content.

    Raises:
        InputError: when the table turns out to be broken, or a path leads out of the folder.
    """
    with _opened(path) as (_, cells):
        for cell in cells(column):
            content = cell
            if isinstance(cell, dict):
                content = cell.get("bytes") if cell.get("bytes") is not None else cell.get("path")
            if is_text(modality):
                yield "" if content is None else str(content)
            elif isinstance(content, str):
                yield file_inside(content, [path.parent])
            else:
                yield b"" if content is None else content


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Callable[[str], Iterator[Any]]]]:
    """The names of a table's columns, and a function that gives the cells of one of them."""
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                yield (
                    file.schema_arrow.names,
                    lambda column: _cells(
                        file.iter_batches(ROWS_AT_ONCE, columns=[column]), column
                    ),
                )
        elif separator := SEPARATORS.get(ending):
            with opened_separated(path, separator) as reader:
                yield reader.schema.names, lambda column: _cells(reader, column)
        else:
            rows = _objects(path)
            first = next(rows, {})
            yield list(first), lambda column: (row.get(column) for row in chain([first], rows))
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(
            f"The table {path} cannot be read: {reason(error)} A table is in UTF-8 and names its "
            "columns: in the first line (.csv, .tsv), in each line (.jsonl) or as parquet."
        ) from error


def _cells(batches: Iterable[Any], column: str) -> Iterator[Any]:
    for batch in batches:
        yield from batch.column(column).to_pylist()


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON: an object a line, or a list of objects."""
    with path.open(encoding="utf-8-sig") as file:
        first = file.read(1)
        file.seek(0)
        rows = (
            json.load(file) if first == "[" else (json.loads(line) for line in file if line.strip())
        )
        for row in rows:
            if not isinstance(row, dict):
                raise InputError("not every row is an object, {column: value}")
            yield row
