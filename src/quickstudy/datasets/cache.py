"""The decoded cache: each data set is decoded once and then read, or memory-mapped, from one file.

A cache file is a safetensors file whose header carries what a data set needs besides its examples.
It is written here byte by byte, and not by the safetensors library, so that data larger than the
memory can be written as they are decoded.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.datasets.cache_folder import (
    appearing_when_complete,
    cache_folder,
    writable_cache_folder,
)
from quickstudy.datasets.decoding import (
    RawExamples,
    Splits,
    Unreadable,
    decoded_batches,
    progress,
)
from quickstudy.inputs import Inputs, UnreadableError

FORMAT_VERSION = 1
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
_HEADER_SLACK = 64 * 1024  # room for what is known only when all is decoded
_NAMED_AT_MOST, _NAME_LENGTH = 10, 400  # of skipped examples; fits the slack


@dataclass(frozen=True)
class Decoded:
    """What a cache file holds: ``examples`` ``[N, *shape]``, class after class."""

    examples: Tensor
    sizes: Sequence[int]
    class_names: Sequence[str]
    splits: Splits
    skipped: int
    skipped_names: Sequence[str]


def load_or_decode(
    name: str,
    identity: Mapping[str, Any],
    inputs: Inputs,
    read: Callable[[], AbstractContextManager[RawExamples]],
    unreadable: Unreadable = "refuse",
) -> Decoded:
    """Reads a data set from its cache file; where there is none, decodes it and writes one.

    Args:
        name: of the data, for messages and the file's name.
        identity: what the raw examples follow from (JSON-ready): when it changes, so do they.
        inputs: decodes the raw examples.
        read: opens the raw examples; called only where there is no good cache file.
        unreadable: whether an example that cannot be decoded is an error or is left out.

    Raises:
        UnreadableError: an example cannot be decoded, and ``unreadable`` is "refuse".
        OSError: the cache file cannot be written.
    """
    everything = {"format": FORMAT_VERSION, "inputs": inputs.to_dict(), "source": identity}
    key = hashlib.blake2b(json.dumps(everything, sort_keys=True).encode(), digest_size=10)
    file_name = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', name)[:60]}-{key.hexdigest()}.safetensors"
    path = cache_folder() / file_name
    found = None
    if path.exists():
        found = _read_or_warn(path)
    if found is None:
        path = writable_cache_folder() / file_name
        with read() as raw:
            _write(path, name, raw, inputs, unreadable)
        found = _read(path)
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
            stacklevel=3,
        )
    return found


def _read_or_warn(path: Path) -> Decoded | None:
    from safetensors import SafetensorError

    try:
        return _read(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(
            f"The decoded data in {path} are damaged ({error}); they are decoded again.",
            stacklevel=4,
        )
        return None


def _read(path: Path) -> Decoded:
    from safetensors import safe_open

    # Opening checks the header and that the file is as long as the header says.
    with safe_open(path, framework="numpy") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
        part = file.get_slice("examples")
        shape, dtype = tuple(part.get_shape()), _DTYPES[part.get_dtype()]
    if sum(about["sizes"]) != shape[0] or len(about["sizes"]) != len(about["class_names"]):
        raise ValueError("its classes do not fit its examples")
    with path.open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    array: np.ndarray[Any, Any] = np.memmap(path, dtype, "r", header, shape)
    if array.nbytes < MAPPED_FROM_BYTES:
        array = np.array(array)
        if zlib.crc32(array.data) != about["checksum"]:
            raise ValueError("its checksum is wrong")
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
    )


def _write(path: Path, name: str, raw: RawExamples, inputs: Inputs, unreadable: Unreadable) -> None:
    """Decodes examples into a cache file, which appears under its name only when complete."""
    about: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "inputs": inputs.to_dict(),
        "class_names": list(raw.class_names),
        "splits": {k: {p: list(c) for p, c in v.items()} for k, v in raw.splits.items()},
        "sizes": list(raw.sizes),
    }
    room = -(-(len(_header(about, "U8", ())) + _HEADER_SLACK) // 64) * 64
    classes = np.repeat(np.arange(len(raw.sizes)), raw.sizes)
    kept: list[int] = []
    skipped: list[str] = []
    shape: tuple[int, ...] = ()
    dtype = "U8"
    checksum = 0
    with appearing_when_complete(path) as file, progress(name, len(classes)) as advance:
        file.write(b" " * room)
        position = 0
        for batch in decoded_batches(raw.rows, inputs):
            good: list[Tensor] = []
            for offset, (called, result) in enumerate(batch):
                if isinstance(result, Tensor):
                    good.append(result)
                    kept.append(position + offset)
                elif unreadable == "skip":
                    skipped.append(called)
                else:
                    raise UnreadableError(
                        f"{called} of {name} cannot be read ({result}). Repair or remove it, or "
                        'leave such examples out with unreadable="skip".'
                    ) from result
            position += len(batch)
            if good:
                stacked = torch.stack(good).contiguous().numpy()
                shape = stacked.shape[1:]
                dtype = next(key for key, value in _DTYPES.items() if value == stacked.dtype)
                checksum = zlib.crc32(stacked.data, checksum)
                file.write(stacked.data)
            advance(len(batch))
        sizes = np.bincount(classes[kept], minlength=len(raw.sizes))
        if not sizes.all():
            empty = raw.class_names[int(sizes.argmin())]
            raise ValueError(
                f"No example of class {empty!r} of {name} can be read. Repair or remove the class."
            )
        about |= {"sizes": sizes.tolist(), "checksum": checksum, "skipped": len(skipped)}
        about["skipped_names"] = [called[-_NAME_LENGTH:] for called in skipped[:_NAMED_AT_MOST]]
        file.seek(0)
        file.write(_header(about, dtype, (len(kept), *shape)).ljust(room))
        file.seek(0)
        file.write((room - 8).to_bytes(8, "little"))


def _header(about: Mapping[str, Any], dtype: str, shape: tuple[int, ...]) -> bytes:
    """Eight bytes for the header's length, then the header, of a safetensors file."""
    length = int(np.prod(shape)) * np.dtype(_DTYPES[dtype]).itemsize
    header = {
        "__metadata__": {key: json.dumps(value) for key, value in about.items()},
        "examples": {"dtype": dtype, "shape": shape, "data_offsets": [0, length]},
    }
    return b" " * 8 + json.dumps(header).encode()
