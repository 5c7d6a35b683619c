"""Decoding in shards, so that interrupted work continues from the last finished one.

Data smaller than a shard never touch the disk here. Of larger ones each full shard becomes a
safetensors file in a hidden folder beside the cache file to be, and the folder goes when that file
is complete. Memory holds one shard, whatever the size of the data.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.datasets.decoded.decoding import (
    RawExamples,
    Unreadable,
    decoded_batches,
    progress,
)
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs, UnreadableError
from quickstudy.inputs.remarks import Remarks
from quickstudy.saving.files import atomically

SHARD_BYTES = 64 * 2**20
"""A shard is full when its examples take so much."""

NAMED_AT_MOST, NAME_LENGTH = 10, 400
"""Of the examples that were skipped."""

_ABANDONED_AFTER_SECONDS = 30 * 24 * 3600


@dataclass
class Shard:
    """The examples of consecutive rows.

    Args:
        start: the first row.
        stop: the row after the last one.
        rows: row numbers of the n examples, ``[n]`` int64; unreadable examples are missing.
        examples: ``[n, *shape]``.
        skipped: how many examples cannot be read.
        skipped_names: the names of the first of these in messages.
        remarks: the remarks of decoding: for each, the number of examples and the name of the
            first.
    """

    start: int
    stop: int
    rows: NDArray[np.int64]
    examples: NDArray[Any]
    skipped: int = 0
    skipped_names: list[str] = field(default_factory=list)
    remarks: dict[str, tuple[int, str]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes it to a file, in one piece."""
        from safetensors.torch import save

        about: dict[str, Any] = {"start": self.start, "stop": self.stop, "skipped": self.skipped}
        about["remarks"] = self.remarks
        more = {"skipped_names": self.skipped_names, "checksum": self._checksum()}
        tensors = {
            "examples": torch.from_numpy(self.examples),
            "rows": torch.from_numpy(self.rows),
        }
        # The library's own writing puts another file in the place of the temporary one, and has
        # errors of its own for a full disk.
        content = save(tensors, metadata={"shard": json.dumps(about | more)})
        with atomically(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> Shard:
        """Reads it from a file.

        Raises:
            ValueError: when it is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["shard"])
                checksum = about.pop("checksum")
                shard = cls(
                    rows=file.get_tensor("rows"), examples=file.get_tensor("examples"), **about
                )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(str(error)) from error
        if shard._checksum() != checksum:
            raise InputError("its checksum is wrong")
        return shard

    def _checksum(self) -> int:
        return zlib.crc32(np.ascontiguousarray(self.examples).data, zlib.crc32(self.rows.data))


class Shards:
    """The shards of a data set, in the order of their rows.

    Args:
        cache_file: that is to be made of them.
    """

    def __init__(self, cache_file: Path) -> None:
        self.folder = cache_file.with_name(f".{cache_file.stem}.parts")
        self.files: list[Path] = []
        self.last: Shard | None = None
        self.rows: list[NDArray[np.int64]] = []
        self.skipped = 0
        self.skipped_names: list[str] = []
        self.remarks = Remarks()

    def __iter__(self) -> Iterator[Shard]:
        """All shards, one at a time."""
        yield from map(Shard.load, self.files)
        if self.last is not None:
            yield self.last

    def take_up(self, total: int) -> int:
        """Takes up the finished shards of an earlier time; returns the first row that is missing.

        A damaged one, and all after it, are removed with a warning.
        """
        next_row = 0
        found = sorted(self.folder.glob("[0-9]*.safetensors"))
        for number, path in enumerate(found):
            try:
                shard = Shard.load(path)
                if shard.start != next_row or not next_row < shard.stop <= total:
                    raise InputError("it does not follow the one before it")
            except ValueError as error:
                warnings.warn(
                    f"The decoded data in {path} are damaged ({error}); decoding continues "
                    "before them.",
                    stacklevel=2,
                )
                for each in found[number:]:
                    each.unlink(missing_ok=True)
                break
            self._count(shard)
            self.files.append(path)
            next_row = shard.stop
        return next_row

    def add(self, shard: Shard, last: bool) -> None:
        """Keeps one more: the last in memory, the others on the disk."""
        if last:
            self.last = shard
        else:
            path = self.folder / f"{len(self.files):08d}.safetensors"
            shard.save(path)
            self.files.append(path)
        self._count(shard)

    def remove(self) -> None:
        """Removes these shards, and shards that others abandoned long ago."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.folder.parent.glob(".*.parts"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _count(self, shard: Shard) -> None:
        self.rows.append(shard.rows)
        self.skipped += shard.skipped
        self.skipped_names += shard.skipped_names[: NAMED_AT_MOST - len(self.skipped_names)]
        self.remarks.update(shard.remarks)


def decode_in_shards(
    shards: Shards, name: str, raw: RawExamples, inputs: Inputs, unreadable: Unreadable
) -> None:
    """Decodes all rows that ``shards`` lack.

    Raises:
        UnreadableError: an example cannot be decoded, and ``unreadable`` is "refuse".
    """
    total = sum(raw.sizes)
    position = shards.take_up(total)
    with progress(name, total, position) as advance:
        filling = _Filling(position)
        remarks = Remarks()
        for batch in decoded_batches(raw.rows(position), inputs, remarks):
            filling.remarks.update(remarks.found)
            remarks.found.clear()
            good: list[Tensor] = []
            for called, result in batch:
                if isinstance(result, Tensor):
                    good.append(result)
                    filling.rows.append(position)
                elif unreadable == "skip":
                    filling.skip(called)
                else:
                    raise UnreadableError(
                        f"{called} of {name} cannot be read ({result}). Repair or remove it, or "
                        'leave such examples out with unreadable="skip".'
                    ) from result
                position += 1
            if good:
                filling.parts.append(torch.stack(good).contiguous().numpy())
            advance(len(batch))
            if sum(part.nbytes for part in filling.parts) >= SHARD_BYTES and position < total:
                shards.add(filling.shard(position), last=False)
                filling = _Filling(position)
        shards.add(filling.shard(position), last=True)


@dataclass
class _Filling:
    """A shard that is being filled."""

    start: int
    rows: list[int] = field(default_factory=list)
    parts: list[NDArray[Any]] = field(default_factory=list)
    skipped: int = 0
    skipped_names: list[str] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)

    def skip(self, called: str) -> None:
        self.skipped += 1
        if len(self.skipped_names) < NAMED_AT_MOST:
            self.skipped_names.append(called[-NAME_LENGTH:])

    def shard(self, stop: int) -> Shard:
        examples = np.concatenate(self.parts) if self.parts else np.empty(0, np.uint8)
        self.parts.clear()
        rows = np.array(self.rows, dtype=np.int64)
        found = self.remarks.found
        return Shard(self.start, stop, rows, examples, self.skipped, self.skipped_names, found)
