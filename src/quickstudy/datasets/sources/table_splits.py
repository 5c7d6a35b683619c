"""Splits of tables: one table per split, or one table with a column for each row's split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.decoded.decoding import ClassSplits
from quickstudy.datasets.sources.columns import Tables
from quickstudy.datasets.sources.splits import (
    SPLIT_COLUMNS,
    chosen_splits,
    class_splits_from,
    in_order,
    known_splits,
    pooling_note,
    split_of,
)
from quickstudy.datasets.sources.table import Table, codes

DATA_SPLITS = "data_splits"
"""The class splits of tables whose splits hold different classes."""


@dataclass(frozen=True)
class SplitOfRows:
    """The split of each row.

    Args:
        names: names of the splits.
        codes: the number of each row's split, ``[N]``; -1 for a row in no split.
    """

    names: Sequence[str]
    codes: NDArray[np.int32]

    def classes(
        self, rows: NDArray[np.int64], classes: NDArray[np.int32], class_names: Sequence[str]
    ) -> dict[str, set[str]]:
        """The classes in each split, given the rows' numbers and classes."""
        of_rows = self.codes[rows]
        return {
            split: {class_names[each] for each in np.unique(classes[of_rows == number]).tolist()}
            for number, split in enumerate(self.names)
            if (of_rows == number).any()
        }


def split_column(tables: Tables) -> str | None:
    """The column that holds the split of each row, if one table has several splits.

    It has one of the usual names and holds only names of splits.
    """
    if len(tables.splits) != 1:
        return None
    known = {column.lower(): column for column in tables.features}
    for name in SPLIT_COLUMNS:
        names = _splits_in(tables.main, known[name])[0] if name in known else []
        if names and all(map(split_of, names)):
            return known[name]
    return None


def _splits_in(table: Table, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """The values of a column as strings, and each row's value; none if it holds anything else."""
    try:
        values, numbers = codes([table], column)
    except (ValueError, NotImplementedError):
        return [], np.empty(0, np.int32)
    named = getattr(table.features[column], "names", None)
    if named and all(isinstance(value, int) and 0 <= value < len(named) for value in values):
        values = [named[value] for value in values]
    return [str(value) for value in values], numbers


def of_split(tables: Tables, split: str | None) -> Tables:
    """The tables of one split, or of several joined by "+".

    A single table with a column of splits stays whole; see :func:`rows_of_split`.

    Raises:
        ValueError: there is none of this name.
    """
    if split is None or (split not in tables.splits and split_column(tables)):
        return tables
    wanted = chosen_splits(split, [*tables.splits], tables.name)
    return dataclasses.replace(tables, splits={each: tables.splits[each] for each in wanted})


def split_of_rows(tables: Tables, splits: Sequence[Table]) -> SplitOfRows:
    """The split of each row of these tables, one after the other."""
    column = split_column(tables)
    if column is not None:
        return SplitOfRows(*_splits_in(tables.main, column))
    names = [name for name, table in tables.splits.items() if table in splits]
    numbers = np.repeat(np.arange(len(names), dtype=np.int32), [len(table) for table in splits])
    return SplitOfRows(names, numbers)


def rows_of_split(tables: Tables, of_rows: SplitOfRows, split: str | None) -> NDArray[np.bool_]:
    """A mask ``[N]`` of the rows in the requested splits.

    Raises:
        ValueError: there is none of this name.
    """
    if split is None or {*of_rows.names} <= {*tables.splits}:
        return np.ones(len(of_rows.codes), dtype=bool)
    wanted = chosen_splits(split, in_order(of_rows.names), tables.name)
    return np.isin(of_rows.codes, [of_rows.names.index(name) for name in wanted])


def class_splits_and_pooling(
    classes: dict[str, set[str]], name: str, split: str | None
) -> tuple[ClassSplits, str]:
    """The class splits that the splits form, and the warning if their examples are pooled.

    Args:
        classes: the classes in each split.
        name: the name of the tables in messages.
        split: the requested splits; pooling these needs no warning.
    """
    known = known_splits([*classes])
    if not known:
        return {}, ""
    of_known = {each: classes[each] for each in known}
    class_splits = class_splits_from(DATA_SPLITS, of_known) if len(known) == len(classes) else {}
    return class_splits, "" if split is not None else pooling_note(name, of_known)
