"""The decoded cache: each data set is decoded once and then read, or memory-mapped, from one file.

A cache file is a safetensors file whose header carries what a data set needs besides its examples.
It is written here byte by byte, and not by the safetensors library, so that it can be larger than
the memory; decoded examples wait in shards until all are complete (see ``shards.py``).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.datasets.decoded.cache_folder import (
    appearing_when_complete,
    cache_folder,
    explaining_full_disks,
    writable_cache_folder,
)
from quickstudy.datasets.decoded.decoding import ClassSplits, RawExamples, Unreadable
from quickstudy.datasets.decoded.shards import Shards, decode_in_shards
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs, UnreadableError

FORMAT_VERSION = 2
MAPPED_FROM_BYTES = 256 * 2**20
"""Data of this size or more stay on disk and are read when they are needed."""

_DTYPES = {
    "U8": np.uint8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
}
_ADVISED_BELOW_BYTES = 8 * 2**10
_CHECKSUM_ROOM = 128  # in the header, for the checksum, which is known only at the end
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Decoded:
    """The content of a cache file: ``examples`` ``[N, *shape]``, class after class.

    ``notes`` and ``pooling`` have the same meaning as in ``RawExamples``; the file also holds the
    remarks of decoding.
    """

    examples: Tensor
    sizes: Sequence[int]
    class_names: Sequence[str]
    class_splits: ClassSplits
    skipped: int
    skipped_names: Sequence[str]
    notes: Sequence[str] = ()
    pooling: str = ""


def load_or_decode(
    name: str,
    identity: Mapping[str, Any],
    inputs: Inputs,
    read: Callable[[], AbstractContextManager[RawExamples]],
    unreadable: Unreadable = "refuse",
) -> Decoded:
    """Reads a data set from its cache file; if there is none, decodes the data and writes one.

    Args:
        name: name of the data, for messages and the file's name.
        identity: JSON-ready value that changes whenever the raw examples change.
        inputs: decodes the raw examples.
        read: opens the raw examples; called only if there is no valid cache file.
        unreadable: whether an example that cannot be decoded is an error or is left out.

    Raises:
        UnreadableError: an example cannot be decoded, and ``unreadable`` is "refuse".
        OSError: the cache file cannot be written.
    """
    everything = {"format": FORMAT_VERSION, "inputs": inputs.to_dict(), "source": identity}
    key = _digest(everything)
    file_name = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)[:60]}-{key}.safetensors"
    path = cache_folder() / file_name
    found = None
    if path.exists():
        found = _read_or_warn(path, key)
    if found is None:
        path = writable_cache_folder() / file_name
        with read() as raw:
            try:
                _write(path, key, name, raw, inputs, unreadable)
            except (ValueError, OSError):
                # Another process can have finished, and removed the shards that both used.
                if not path.exists():
                    raise
        found = read_cache(path, key)
    if found.skipped:
        named = ", ".join(found.skipped_names)
        more = found.skipped - len(found.skipped_names)
        listed = f"{named} and {more} more" if more else named
        if unreadable == "refuse":
            raise UnreadableError(
                f"{found.skipped} examples of {name} cannot be read: {listed}. Repair or remove "
                'them, or leave them out with unreadable="skip".'
            )
        warnings.warn(
            f"{found.skipped} examples of {name} cannot be read and are left out: {listed}.",
            stacklevel=4,
        )
    return found


def _read_or_warn(path: Path, key: str) -> Decoded | None:
    from safetensors import SafetensorError

    try:
        return read_cache(path, key)
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        warnings.warn(
            f"The decoded data in {path} are damaged ({error}); they are decoded again.",
            stacklevel=5,
        )
        return None


def read_cache(path: Path, key: str | None = None) -> Decoded:
    """The content of a cache file. Large files are mapped: only their header is read.

    Args:
        path: path of the file.
        key: digest of the data's identity to check the header against; None to skip the check.

    Raises:
        SafetensorError, OSError, ValueError, KeyError, TypeError: if damage is found; the checksum
            of a large file is not verified, because that would take a pass over all of it.
    """
    from safetensors import safe_open

    # Opening checks the header, and that the file has the length that the header states.
    with safe_open(path, framework="numpy") as file:
        about = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
        part = file.get_slice("examples")
        shape, dtype = tuple(part.get_shape()), _DTYPES[part.get_dtype()]
        if key is not None and about.pop("seal") != seal(key, about, part.get_dtype(), shape):
            raise InputError("its header is not as it was written")
    if sum(about["sizes"]) != shape[0] or len(about["sizes"]) != len(about["class_names"]):
        raise InputError("its classes do not fit its examples")
    with path.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    array = _mapped(path, dtype, header, shape)
    if array.nbytes < MAPPED_FROM_BYTES:
        array = np.array(array)
        if zlib.crc32(array.data) != about["checksum"]:
            raise InputError("its checksum is wrong")
    with warnings.catch_warnings():
        # A mapped file is read-only, which is what it should be.
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        examples = torch.from_numpy(array)
    return Decoded(
        examples,
        about["sizes"],
        about["class_names"],
        about["splits"],
        about["skipped"],
        about["skipped_names"],
        about.get("notes", ()),
        about.get("pooling", ""),
    )


def _mapped(path: Path, dtype: Any, offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array that is read from a file when it is needed."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(mapped, dtype, int(np.prod(shape)), offset).reshape(shape)
    if array.nbytes // max(1, len(array)) < _ADVISED_BELOW_BYTES and hasattr(mapped, "madvise"):
        # Else the system reads some 100 KiB around each example, as if its neighbours came next.
        mapped.madvise(mmap.MADV_RANDOM)
    return array


def _write(
    path: Path, key: str, name: str, raw: RawExamples, inputs: Inputs, unreadable: Unreadable
) -> None:
    """Decodes examples into a cache file, which appears under its name only when complete.

    Shards hold them as they came; the file has them class after class.
    """
    shards = Shards(path)
    with explaining_full_disks(path.parent):
        decode_in_shards(shards, name, raw, inputs, unreadable)
    classes = raw.class_of_rows()[np.concatenate(shards.rows)]
    sizes = np.bincount(classes, minlength=len(raw.sizes))
    if not sizes.all():
        empty = raw.class_names[int(sizes.argmin())]
        raise InputError(
            f"No example of class {empty!r} of {name} can be read. Repair or remove the class."
        )
    places = np.empty(len(classes), np.int64)
    places[np.argsort(classes, kind="stable")] = np.arange(len(classes))
    first = next(iter(shards)).examples
    dtype = next(key for key, value in _DTYPES.items() if value == first.dtype)
    about: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "inputs": inputs.to_dict(),
        "class_names": list(raw.class_names),
        "splits": {k: {p: list(c) for p, c in v.items()} for k, v in raw.class_splits.items()},
        "sizes": sizes.tolist(),
        "skipped": shards.skipped,
        "skipped_names": shards.skipped_names,
        "notes": [*raw.notes, *shards.remarks.sentences(f" of {name}")],
        "pooling": raw.pooling,
    }
    shape = (len(classes), *first.shape[1:])
    room = -(-(len(_header(about, dtype, shape)) + _CHECKSUM_ROOM) // 64) * 64
    with appearing_when_complete(path) as file:
        file.write(b" " * room)
        done = 0
        for shard in shards:
            _put(file, shard.examples, places[done : done + len(shard.rows)], room)
            done += len(shard.rows)
        about["checksum"] = _checksum_from(file, room)
        about["seal"] = seal(key, about, dtype, shape)
        file.seek(0)
        file.write(_header(about, dtype, shape).ljust(room))
        file.seek(0)
        file.write((room - 8).to_bytes(8, "little"))
    shards.remove()


def _put(file: BinaryIO, examples: NDArray[Any], places: NDArray[np.int64], offset: int) -> None:
    """Writes examples at their places; examples of a class in one shard are adjacent there."""
    if not len(places):
        return
    order = np.argsort(places)
    places = places[order]
    # Copied in blocks: sorting all of a shard at once would take its size again.
    each = examples[0].nbytes
    block = max(1, _BLOCK_BYTES // max(1, each))
    for start in range(0, len(places), block):
        sorted_examples = np.ascontiguousarray(examples[order[start : start + block]])
        own = places[start : start + block]
        ends = [*(np.flatnonzero(np.diff(own) != 1) + 1).tolist(), len(own)]
        begin = 0
        for end in ends:
            file.seek(offset + int(own[begin]) * each)
            file.write(sorted_examples[begin:end].data)
            begin = end


def _checksum_from(file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    checksum = 0
    while block := file.read(_BLOCK_BYTES):
        checksum = zlib.crc32(block, checksum)
    return checksum


def seal(key: str, about: Mapping[str, Any], dtype: str, shape: Sequence[int]) -> str:
    """A checksum of a cache file's header, and of what its data follow from."""
    return _digest([key, about, dtype, list(shape)])


def _digest(value: Any) -> str:
    content = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def _header(about: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> bytes:
    """Eight bytes for the header's length, then the header, of a safetensors file."""
    length = int(np.prod(shape)) * np.dtype(_DTYPES[dtype]).itemsize
    header = {
        "__metadata__": {key: json.dumps(value) for key, value in about.items()},
        "examples": {"dtype": dtype, "shape": shape, "data_offsets": [0, length]},
    }
    return b" " * 8 + json.dumps(header).encode()
