"""Which rows of tables are wanted, and from those rows to raw examples by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.decoded.decoding import ClassSplits, RawExamples
from quickstudy.datasets.sources.columns import Columns, Found, Tables, described, find_columns
from quickstudy.datasets.sources.layout import same_names
from quickstudy.datasets.sources.splits import known_splits
from quickstudy.datasets.sources.table import Table, codes, plain_values
from quickstudy.datasets.sources.table_splits import (
    SplitOfRows,
    class_splits_and_pooling,
    of_split,
    rows_of_split,
    split_of_rows,
)
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import MODALITIES, is_text

Where = Mapping[str, Sequence[str | int] | str]
"""For columns the values that are wanted: a list, or "name/split" in ``class_splits.json``."""


@dataclass(frozen=True)
class Rows:
    """Which rows are wanted; all of them by default.

    Args:
        split: name of a split, or of several joined by "+".
        where: those whose column has one of these values.
    """

    split: str | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def chosen(cls, split: str | None, where: Where | None, class_splits: ClassSplits) -> Rows:
        """From what ``load_dataset`` is given; ``class_splits`` are those of ``class_splits.json``.

        Raises:
            ValueError: a string names none of the class splits, or a list is empty.
        """
        values = {}
        for column, wanted in (where or {}).items():
            if isinstance(wanted, str):
                values[column] = _named_values(column, wanted, class_splits)
            else:
                values[column] = sorted({str(value) for value in wanted})
            if not values[column]:
                raise InputError(f"where[{column!r}] is empty; it should list the values to keep.")
        return cls(split, values)

    @property
    def all(self) -> bool:
        """Whether no row is left out."""
        return self.split is None and not self.where


def _named_values(column: str, name: str, class_splits: ClassSplits) -> list[str]:
    called, _, split = name.partition("/")
    if split in class_splits.get(called, {}):
        return sorted(class_splits[called][split])
    known = [f"{each}/{split}" for each, splits in class_splits.items() for split in splits]
    raise InputError(
        f"where[{column!r}] is {name!r}, which is not in class_splits.json "
        f"({', '.join(known) if known else 'there is none'}). Values to keep are given as a list: "
        f"[{name!r}]."
    )


def raw_examples(tables: Tables, columns: Columns, rows: Rows, modality: str | None) -> RawExamples:
    """Pools the wanted splits and determines the class of each of their examples.

    Only the columns of classes and of wanted values are read; the inputs are read piece by piece
    when the rows are requested.

    Args:
        tables: the tables of the examples.
        columns: the columns of inputs and classes, as far as they are known.
        rows: the wanted rows.
        modality: modality of the inputs, if known.

    Raises:
        ValueError: there are no such columns, splits, values or files.
    """
    chosen = _choose(tables, columns, rows, modality)
    parts, found, numbers = chosen.tables, chosen.found, chosen.numbers
    class_splits, pooling = class_splits_and_pooling(
        chosen.classes_of_splits(), tables.name, rows.split
    )
    sizes = np.bincount(chosen.classes, minlength=len(chosen.names)).tolist()

    def some(start: int) -> Iterator[tuple[str, Any]]:
        return _rows(parts, found, numbers[start:], tables)

    return RawExamples(
        chosen.names, sizes, some, class_splits, chosen.classes, chosen.notes, pooling
    )


def labelled_splits(
    tables: Tables, columns: Columns, rows: Rows, modality: str | None
) -> list[str]:
    """The names of the splits, such as train and test, that have labelled rows; in order.

    Args, Raises: as :func:`raw_examples`.
    """
    return known_splits([*_choose(tables, columns, rows, modality).classes_of_splits()])


@dataclass(frozen=True)
class _Chosen:
    """The requested rows.

    Args:
        tables: those that have all the columns.
        found: the columns.
        split: the split of each row of the tables.
        numbers: the numbers of the requested rows that have a class.
        names: names of the classes.
        classes: the class number of each requested row.
        notes: warnings.
    """

    tables: Sequence[Table]
    found: Found
    split: SplitOfRows
    numbers: NDArray[np.int64]
    names: Sequence[str]
    classes: NDArray[np.int32]
    notes: Sequence[str]

    def classes_of_splits(self) -> dict[str, set[str]]:
        """The classes in each split."""
        return self.split.classes(self.numbers, self.classes, self.names)


def _choose(tables: Tables, columns: Columns, rows: Rows, modality: str | None) -> _Chosen:
    tables = of_split(tables, rows.split)
    found = find_columns(tables, columns, modality)
    needed = list(dict.fromkeys([found.input, found.label, *rows.where]))
    unknown = [column for column in needed if column not in tables.features]
    if unknown:
        raise InputError(
            f"{tables.name} has no column {unknown[0]!r}. {described(tables.features)}"
        )
    notes: list[str] = []
    parts = _with_columns(tables, needed, notes)
    split = split_of_rows(tables, parts)
    wanted = rows_of_split(tables, split, rows.split)
    for column, values in rows.where.items():
        wanted &= _with_values(_Values.of(parts, column, tables.name), values)
    labels = _Values.of(parts, found.label, tables.name)
    numbers, names, classes = _labelled(labels, wanted, notes)
    return _Chosen(parts, found, split, numbers, names, classes, notes)


def _with_columns(tables: Tables, needed: Sequence[str], notes: list[str]) -> list[Table]:
    lacking = [
        split for split, table in tables.splits.items() if not {*needed} <= {*table.features}
    ]
    if lacking:
        notes.append(
            f"The split {' and '.join(map(repr, lacking))} of {tables.name} lacks one of the "
            f"columns {', '.join(map(repr, needed))} and is left out."
        )
    return [table for split, table in tables.splits.items() if split not in lacking]


@dataclass(frozen=True)
class _Values:
    """A column of values that many examples share.

    Args:
        column: its name.
        data: what messages call the table.
        values: the different ones.
        codes: for each row the number of its value, ``[N]``; -1 where there is none.
    """

    column: str
    data: str
    values: Sequence[Any]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, splits: Sequence[Table], column: str, data: str) -> _Values:
        """Reads a column of several tables; class labels become the classes' names.

        Raises:
            ValueError: it does not hold one value an example, or is not the same in all tables.
        """
        features = [split.features[column] for split in splits]
        names = getattr(features[0], "names", None)
        kinds = {str(getattr(each, "dtype", each)).removeprefix("large_") for each in features}
        if len(kinds) > 1 or any(getattr(each, "names", None) != names for each in features):
            raise InputError(
                f"The column {column!r} of {data} is not of the same type in all of its tables."
            )
        try:
            values, numbers = codes(splits, column)
        except (ValueError, NotImplementedError) as error:
            raise InputError(f"The column {column!r} of {data} cannot be read: {error}.") from error
        if names and all(isinstance(value, int) for value in values):
            beyond = [value for value in values if value >= len(names)]
            if beyond:
                raise InputError(
                    f"The column {column!r} of {data} holds the class number {beyond[0]}, but "
                    f"names only {len(names)} classes."
                )
            # The hub's convention for a withheld label is -1.
            known = np.array([value >= 0 for value in values] + [False])
            numbers = np.where(known[numbers], numbers, -1).astype(np.int32)
            return cls(column, data, [_Named(value, names) for value in values], numbers)
        return cls(column, data, values, numbers)


class _Named(int):
    """The number of a class; its string is the class's name, and it sorts by number."""

    name: str

    def __new__(cls, number: int, names: Sequence[str]) -> _Named:
        made = super().__new__(cls, number)
        made.name = names[number] if number >= 0 else ""
        return made

    def __str__(self) -> str:
        return self.name


def _with_values(column: _Values, wanted: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows have one of the wanted values; each of these must be there."""
    present = set(np.unique(column.codes).tolist())
    texts = {number: str(v) for number, v in enumerate(column.values) if number in present}
    texts |= {-1: ""} if -1 in present else {}
    unknown = sorted({*wanted} - {*texts.values()})
    if unknown:
        raise InputError(
            f"No example of {column.data} has {unknown[0]!r} in the column {column.column!r} "
            f"({len(unknown)} of {len(wanted)} values are not there); there are values like "
            f"{next(iter(texts.values()), None)!r}."
        )
    chosen = [number for number, text in texts.items() if text in {*wanted}]
    return np.isin(column.codes, chosen)


def _labelled(
    labels: _Values, wanted: NDArray[np.bool_], notes: list[str]
) -> tuple[NDArray[np.int64], list[str], NDArray[np.int32]]:
    """The numbers of the wanted rows with a class, the classes' names, and each row's class."""
    has_label = labels.codes >= 0
    numbers = np.flatnonzero(wanted & has_label)
    if not len(numbers):
        raise InputError(
            f"No example of {labels.data} has a label in the column {labels.column!r}."
        )
    missing = int((wanted & ~has_label).sum())
    if missing:
        notes.append(
            f"{missing} examples of {labels.data} have no label in the column {labels.column!r} "
            "and are left out."
        )
    own = labels.codes[numbers]
    values = labels.values
    used = sorted(np.unique(own).tolist(), key=lambda number: _sortable(values[number]))
    names = [str(values[number]) for number in used]
    merged, said = same_names({*names}, labels.data)
    notes += said
    own_names = [merged.get(name, name) for name in names]
    distinct = list(dict.fromkeys(own_names)) if merged else own_names
    place = np.full(len(values), -1, np.int32)
    place[used] = [distinct.index(name) for name in own_names] if merged else np.arange(len(used))
    return numbers, distinct, place[own]


def _sortable(value: Any) -> tuple[bool, Any]:
    return value != value, value  # NaN, which is not equal to itself, comes last


def _rows(
    splits: Sequence[Table], found: Found, numbers: NDArray[np.int64], tables: Tables
) -> Iterator[tuple[str, Any]]:
    """The inputs of the rows of these numbers, which ascend."""
    before = 0
    for split in splits:
        own = numbers[(numbers >= before) & (numbers < before + len(split))]
        if len(own):
            row = int(own[0])
            # Pieces that were decoded before are not read again when decoding continues.
            for piece in split.pieces(found.input, row - before):
                here = own[(own >= row) & (own < row + len(piece))]
                for number, each in zip(here, plain_values(piece.take(here - row)), strict=True):
                    yield _raw(int(number), each, found, tables)
                row += len(piece)
        before += len(split)


def _raw(number: int, value: Any, found: Found, tables: Tables) -> tuple[str, Any]:
    """The name of an input in messages, and the raw item itself."""
    called = f"{MODALITIES[found.held.modality].noun.capitalize()} {number}"
    if is_text(found.held.modality) and not found.held.are_paths:
        return called, value or ""
    path = value if isinstance(value, str) else None
    content: Any = value if isinstance(value, bytes) else None
    if isinstance(value, dict):
        path, content = value.get("path"), value.get("bytes")
    if path:
        called += f" ({path!r})"
    if content is None and path:
        content = file_inside(path, tables.roots)
    return called, content


def file_inside(path: str, roots: Sequence[Path]) -> Path:
    """A file that a table names, relative to the first of ``roots`` and inside one of them.

    Raises:
        ValueError: the path leads out of them.
    """
    whole = roots[0] / path
    real = whole.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise InputError(
            f"The table names the file {path!r}, which is not inside {roots[0]}. Files that a "
            "table names must lie in the table's folder or below it."
        )
    return whole


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps the ``datasets`` library from showing bars of its own."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()
