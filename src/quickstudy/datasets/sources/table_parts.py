"""Parts of tables: one table per part, or one table with a column for each row's part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.decoded.decoding import Splits
from quickstudy.datasets.sources.columns import Tables
from quickstudy.datasets.sources.parts import (
    SPLIT_COLUMNS,
    chosen_parts,
    in_order,
    known_parts,
    part_of,
    pooling_note,
    split_by_parts,
)
from quickstudy.datasets.sources.table import Table, codes

DATA_SPLITS = "data_splits"
"""The published split of tables whose parts hold different classes."""


@dataclass(frozen=True)
class PartOfRows:
    """The part of each row.

    Args:
        names: of the parts.
        codes: the number of each row's part, ``[N]``; -1 for a row in no part.
    """

    names: Sequence[str]
    codes: NDArray[np.int32]

    def classes(
        self, rows: NDArray[np.int64], classes: NDArray[np.int32], class_names: Sequence[str]
    ) -> dict[str, set[str]]:
        """The classes in each part, given the rows' numbers and classes."""
        of_rows = self.codes[rows]
        return {
            part: {class_names[each] for each in np.unique(classes[of_rows == number]).tolist()}
            for number, part in enumerate(self.names)
            if (of_rows == number).any()
        }


def split_column(tables: Tables) -> str | None:
    """The column that holds the part of each row, if one table has several parts.

    It has one of the usual names and holds only names of parts.
    """
    if len(tables.parts) != 1:
        return None
    known = {column.lower(): column for column in tables.features}
    for name in SPLIT_COLUMNS:
        names = _parts_in(tables.main, known[name])[0] if name in known else []
        if names and all(map(part_of, names)):
            return known[name]
    return None


def _parts_in(table: Table, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """The values of a column as strings, and each row's value; none if it holds anything else."""
    try:
        values, numbers = codes([table], column)
    except (ValueError, NotImplementedError):
        return [], np.empty(0, np.int32)
    named = getattr(table.features[column], "names", None)
    if named and all(isinstance(value, int) and 0 <= value < len(named) for value in values):
        values = [named[value] for value in values]
    return [str(value) for value in values], numbers


def of_data_split(tables: Tables, data_split: str | None) -> Tables:
    """The tables of one data split, or of several joined by "+".

    A single table with a column of parts stays whole; see :func:`rows_of_data_split`.

    Raises:
        ValueError: there is none of this name.
    """
    if data_split is None or (data_split not in tables.parts and split_column(tables)):
        return tables
    wanted = chosen_parts(data_split, [*tables.parts], tables.name)
    return dataclasses.replace(tables, parts={each: tables.parts[each] for each in wanted})


def part_of_rows(tables: Tables, parts: Sequence[Table]) -> PartOfRows:
    """The part of each row of these tables, one after the other."""
    column = split_column(tables)
    if column is not None:
        return PartOfRows(*_parts_in(tables.main, column))
    names = [name for name, table in tables.parts.items() if table in parts]
    numbers = np.repeat(np.arange(len(names), dtype=np.int32), [len(table) for table in parts])
    return PartOfRows(names, numbers)


def rows_of_data_split(
    tables: Tables, part: PartOfRows, data_split: str | None
) -> NDArray[np.bool_]:
    """A mask ``[N]`` of the rows in the requested parts.

    Raises:
        ValueError: there is none of this name.
    """
    if data_split is None or {*part.names} <= {*tables.parts}:
        return np.ones(len(part.codes), dtype=bool)
    wanted = chosen_parts(data_split, in_order(part.names), tables.name)
    return np.isin(part.codes, [part.names.index(name) for name in wanted])


def split_and_pooling(
    classes: dict[str, set[str]], name: str, data_split: str | None
) -> tuple[Splits, str]:
    """The split that the parts form, and the warning if their examples are pooled.

    Args:
        classes: the classes in each part.
        name: the name of the tables in messages.
        data_split: the requested parts; pooling these needs no warning.
    """
    known = known_parts([*classes])
    if not known:
        return {}, ""
    of_known = {part: classes[part] for part in known}
    splits = split_by_parts(DATA_SPLITS, of_known) if len(known) == len(classes) else {}
    return splits, "" if data_split is not None else pooling_note(name, of_known)
