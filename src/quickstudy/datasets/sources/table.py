"""One table, read a column and a piece at a time, so that it can be larger than the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError

ROWS_AT_ONCE = 1024
_MEDIA_AT_ONCE = 64  # an image or sound can take megabytes
_READ_BYTES = 2**20


class Table(Protocol):
    """A table with named columns."""

    @property
    def features(self) -> Mapping[str, Any]:
        """The columns' types, as the library ``datasets`` has them."""
        ...

    def __len__(self) -> int: ...

    def pieces(self, column: str, start: int = 0) -> Iterator[Any]:
        """A column's values from row ``start`` on, as ``pyarrow`` arrays of bounded length."""
        ...


class LibraryTable:
    """A table of the library ``datasets``, which lies in memory or is mapped from a file.

    Args:
        table: a ``datasets.Dataset``.
    """

    def __init__(self, table: Any) -> None:
        self.table = table.with_format("arrow")
        self.features: Mapping[str, Any] = table.features

    def __len__(self) -> int:
        return len(self.table)

    def pieces(self, column: str, start: int = 0) -> Iterator[Any]:
        """As :class:`Table` has it."""
        only = self.table.select_columns([column])
        for first in range(start, len(self), ROWS_AT_ONCE):
            yield from only[first : first + ROWS_AT_ONCE][column].chunks


def _open_file(path: str) -> BinaryIO:
    return Path(path).open("rb")


class ParquetTable:
    """Parquet files read by their row groups; of each only the column that is asked for.

    Args:
        files: their paths, or addresses that ``opened`` takes.
        features: types of the columns; by default as the first file declares them.
        opened: opens one of them to be read.
    """

    def __init__(
        self,
        files: Sequence[str],
        features: Mapping[str, Any] | None = None,
        opened: Callable[[str], Any] = _open_file,
    ) -> None:
        self.files = files
        self._opened = opened
        self._features = features

    @cached_property
    def features(self) -> Mapping[str, Any]:
        """The columns' types."""
        if self._features is not None:
            return self._features
        import datasets

        with self._open(self.files[0]) as file:
            schema = file.schema_arrow
        features: Mapping[str, Any] = datasets.Features.from_arrow_schema(schema)
        return features

    @cached_property
    def _group_sizes(self) -> list[list[int]]:
        """The rows of each row group of each file."""
        sizes = []
        for path in self.files:
            with self._open(path) as file:
                about = file.metadata
                sizes.append([about.row_group(n).num_rows for n in range(about.num_row_groups)])
        return sizes

    def __len__(self) -> int:
        return sum(map(sum, self._group_sizes))

    def pieces(self, column: str, start: int = 0) -> Iterator[Any]:
        """As :class:`Table` has it."""
        kind = type(self.features[column]).__name__
        at_once = ROWS_AT_ONCE if kind in ("Value", "ClassLabel") else _MEDIA_AT_ONCE
        for path, sizes in zip(self.files, self._group_sizes, strict=True):
            ends = np.cumsum(sizes)
            groups = [number for number, end in enumerate(ends) if end > start]
            if groups:
                left_out = start - int(ends[groups[0]] - sizes[groups[0]])
                with self._open(path) as file:
                    for batch in file.iter_batches(at_once, groups, columns=[column]):
                        if batch.num_rows > left_out:
                            yield batch.column(0).slice(left_out)
                        left_out = max(0, left_out - batch.num_rows)
            start = max(0, start - sum(sizes))

    @contextmanager
    def _open(self, path: str) -> Iterator[Any]:
        """A file; what goes wrong with it becomes a ValueError that names it."""
        from pyarrow import parquet  # type: ignore[import-untyped]

        try:
            with self._opened(path) as source, _parquet_file(parquet, source) as file:
                yield file
        # pyarrow's errors are of many kinds, and not all of them derive from its own.
        except (
            OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError
        ) as error:  # fmt: skip
            raise InputError(
                f"the parquet file {path} is damaged or of no known kind: {error}"
            ) from error


def _parquet_file(parquet: Any, source: Any) -> Any:
    # Without a buffer a whole column of a row group is read at once.
    return parquet.ParquetFile(source, buffer_size=_READ_BYTES, pre_buffer=False)


def first_values(table: Table, column: str, count: int) -> list[Any]:
    """The first ``count`` values of a column."""
    values = (value for piece in table.pieces(column) for value in plain_values(piece))
    return list(islice(values, count))


def plain_values(piece: Any) -> list[Any]:
    """The values of an array; a string that is not UTF-8, as a damaged file has it, as bytes."""
    import pyarrow as pa

    try:
        values: list[Any] = piece.to_pylist()
        return values
    except UnicodeDecodeError:
        return [_decoded(value) for value in piece.cast(pa.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def codes(tables: Sequence[Table], column: str) -> tuple[list[Any], NDArray[np.int32]]:
    """A column of several tables, one after the other, as numbers of its different values.

    Returns:
        The values, in the order in which they first appear, and for each row the number of its
        value, ``[N]``; -1 where there is none.

    Raises:
        ValueError: the column holds several values for each example.
    """
    import pyarrow as pa

    numbers: dict[Any, int] = {}
    found: list[NDArray[np.int32]] = []
    for table in tables:
        for piece in table.pieces(column):
            if pa.types.is_nested(piece.type):
                raise InputError("it holds several values for an example")
            encoded = piece if pa.types.is_dictionary(piece.type) else piece.dictionary_encode()
            own = [
                -1 if value is None else numbers.setdefault(value, len(numbers))
                for value in encoded.dictionary.to_pylist()
            ]
            indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            found.append(np.array([*own, -1], dtype=np.int32)[indices])
    return list(numbers), np.concatenate([*found, np.empty(0, np.int32)])


def unique_values(table: Table, column: str) -> set[Any]:
    """The different values of a column; ValueError as in :func:`codes`."""
    return set(codes([table], column)[0])
