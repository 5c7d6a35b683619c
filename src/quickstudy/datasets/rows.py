"""Which rows of tables are wanted, and from those rows to raw examples by class."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.columns import (
    Columns,
    Found,
    Tables,
    described,
    find_columns,
    reason,
)
from quickstudy.datasets.decoding import RawExamples, Splits
from quickstudy.datasets.kinds import KINDS

Where = Mapping[str, Sequence[str | int] | str]
"""For columns the values that are wanted: a list, or "split/part" of ``class_splits.json``."""

_READ_AT_ONCE = 1024


@dataclass(frozen=True)
class Rows:
    """Which rows are wanted; all of them by default.

    Args:
        data_split: those of one data split, or of several joined by "+".
        where: those whose column has one of these values.
    """

    data_split: str | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def chosen(cls, data_split: str | None, where: Where | None, splits: Splits) -> Rows:
        """From what ``load_dataset`` is given; ``splits`` are those of ``class_splits.json``.

        Raises:
            ValueError: a string names no part of a split, or a list is empty.
        """
        values = {}
        for column, wanted in (where or {}).items():
            if isinstance(wanted, str):
                values[column] = _named_values(column, wanted, splits)
            else:
                values[column] = sorted({str(value) for value in wanted})
            if not values[column]:
                raise ValueError(f"where[{column!r}] is empty; it should list the values to keep.")
        return cls(data_split, values)

    @property
    def all(self) -> bool:
        """Whether no row is left out."""
        return self.data_split is None and not self.where


def _named_values(column: str, name: str, splits: Splits) -> list[str]:
    split, _, part = name.partition("/")
    if part in splits.get(split, {}):
        return sorted(splits[split][part])
    known = [f"{split}/{part}" for split, parts in splits.items() for part in parts]
    raise ValueError(
        f"where[{column!r}] is {name!r}, which is no part of a split of class_splits.json "
        f"({', '.join(known) if known else 'there is none'}). Values to keep are given as a list: "
        f"[{name!r}]."
    )


def of_data_split(tables: Tables, data_split: str | None) -> Tables:
    """The tables of one data split, or of several joined by "+".

    Raises:
        ValueError: there is none of this name.
    """
    if data_split is None:
        return tables
    wanted = data_split.split("+")
    missing = [each for each in wanted if each not in tables.parts]
    if missing:
        raise ValueError(
            f"{tables.name} has no data split {missing[0]!r}; it has {', '.join(tables.parts)}."
        )
    return dataclasses.replace(tables, parts={each: tables.parts[each] for each in wanted})


def raw_examples(tables: Tables, columns: Columns, rows: Rows, kind: str | None) -> RawExamples:
    """Pools the data splits that are wanted and puts their examples class after class.

    Args:
        tables: where the examples are.
        columns: where in them, as far as it is known.
        rows: which of them.
        kind: of the inputs, where it is known.

    Raises:
        ValueError: there are no such columns, data splits, values or files.
    """
    tables = of_data_split(tables, rows.data_split)
    found = find_columns(tables, columns, kind)
    needed = list(dict.fromkeys([found.input, found.label, *rows.where]))
    unknown = [column for column in needed if column not in tables.features]
    if unknown:
        raise ValueError(
            f"{tables.name} has no column {unknown[0]!r}. {described(tables.features)}"
        )
    pooled = _pooled(tables, found, needed)
    wanted = np.ones(len(pooled), dtype=bool)
    for column, values in rows.where.items():
        wanted &= _with_values(pooled, column, values, tables.name)
    order, names, sizes = _grouped(pooled, found.label, wanted, tables.name)
    return RawExamples(names, sizes, _rows(pooled, found, order, tables.roots), {})


def _pooled(tables: Tables, found: Found, needed: Sequence[str]) -> Any:
    import datasets

    lacking = [split for split, table in tables.parts.items() if not {*needed} <= {*table.features}]
    if lacking:
        warnings.warn(
            f"The data split {lacking[0]!r} of {tables.name} lacks one of the columns "
            f"{', '.join(map(repr, needed))} and is left out.",
            stacklevel=2,
        )
    as_stored: Any = datasets.Value("string")
    if not found.held.are_paths and found.held.kind != "text":
        media = {"image": datasets.Image, "audio": datasets.Audio}
        as_stored = media[found.held.kind](decode=False)
    parts = [table.select_columns(needed) for s, table in tables.parts.items() if s not in lacking]
    try:
        with without_bars():
            cast = [
                part
                if part.features[found.input] == as_stored
                else part.cast_column(found.input, as_stored)
                for part in parts
            ]
            return datasets.concatenate_datasets(cast)
    except (TypeError, ValueError, NotImplementedError) as error:  # pyarrow raises all three
        raise ValueError(
            f"The column {found.input!r} of {tables.name} cannot be read as "
            f"{KINDS[found.held.kind].nouns}: {reason(error)} {described(tables.features)}"
        ) from error


def _with_values(pooled: Any, column: str, wanted: Sequence[str], name: str) -> NDArray[np.bool_]:
    """Which rows have one of the wanted values; each of these must be there."""
    names = getattr(pooled.features[column], "names", None)
    stored = _stored(pooled, column)
    values = ["" if v is None or (names and v < 0) else names[v] if names else v for v in stored]
    texts = np.array([str(value) for value in values])
    unknown = sorted({*wanted} - {*texts.tolist()})
    if unknown:
        raise ValueError(
            f"No example of {name} has {unknown[0]!r} in the column {column!r} ({len(unknown)} of "
            f"{len(wanted)} values are not there); there are values like {texts[0]!r}."
        )
    return np.isin(texts, [*wanted])


def _grouped(
    pooled: Any, label: str, wanted: NDArray[np.bool_], name: str
) -> tuple[NDArray[np.int64], list[str], list[int]]:
    """The wanted rows' numbers class after class, the classes' names and their sizes."""
    column = _stored(pooled, label)
    names = getattr(pooled.features[label], "names", None)
    # The hub's convention for a withheld label is -1.
    unlabelled = [i for i, v in enumerate(column) if v is None or (names and v < 0)]
    has_label = np.ones(len(column), dtype=bool)
    has_label[unlabelled] = False
    labelled = np.flatnonzero(wanted & has_label)
    if not len(labelled):
        raise ValueError(f"No example of {name} has a label in the column {label!r}.")
    missing = int((wanted & ~has_label).sum())
    if missing:
        warnings.warn(
            f"{missing} examples of {name} have no label in the column {label!r} and are left out.",
            stacklevel=2,
        )
    if isinstance(column[labelled[0]], list | dict):
        raise ValueError(
            f"The column {label!r} of {name} holds several values for an example, not its class."
        )
    values, codes = np.unique(np.array([column[i] for i in labelled]), return_inverse=True)
    order = labelled[np.argsort(codes, kind="stable")]
    class_names = [names[value] if names else str(value) for value in values.tolist()]
    return order, class_names, np.bincount(codes).tolist()


def _rows(
    pooled: Any, found: Found, order: NDArray[np.int64], roots: Sequence[Path]
) -> Iterator[tuple[str, Any]]:
    noun = KINDS[found.held.kind].noun.capitalize()
    table = pooled.with_format("arrow")
    for start in range(0, len(order), _READ_AT_ONCE):
        numbers = order[start : start + _READ_AT_ONCE]
        for number, each in zip(numbers, table[numbers][found.input].to_pylist(), strict=True):
            if isinstance(each, dict) or found.held.are_paths:
                path = (each.get("path") if isinstance(each, dict) else each) or ""
                content = each.get("bytes") if isinstance(each, dict) else None
                called = f"{noun} {number}" + (f" ({path!r})" if path else "")
                if content is None and path:
                    content = file_inside(path, roots) if roots else Path(path)
                yield called, content
            else:
                is_text = found.held.kind == "text"
                yield f"{noun} {number}", (each or "") if is_text else each


def _stored(pooled: Any, column: str) -> list[Any]:
    values: list[Any] = pooled.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return values


def file_inside(path: str, roots: Sequence[Path]) -> Path:
    """A file that a table names, relative to the first of ``roots`` and inside one of them.

    Raises:
        ValueError: the path leads out of them.
    """
    whole = roots[0] / path
    real = whole.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise ValueError(
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
