"""The identity of data and sources of tasks, so that a run is resumed with those it began with.

A checkpoint holds it, so it is small: sizes, and a digest of the examples. For large data, which
can be on disk, the digest covers some thousand evenly spaced examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.datasets import ClassDataset
from quickstudy.encoders.feature_cache import feed
from quickstudy.episodes import Episode
from quickstudy.inputs import Inputs

MOST_BYTES = 64 * 2**20
"""Of examples that are read for a digest."""

MOST_EXAMPLES, FEWEST_EXAMPLES = 4096, 16
"""That are read where all of them would be more than that."""

_ROWS_AT_ONCE = 1024
_DIGEST_BYTES = 16
_DEEPEST, _MOST_LISTED = 8, 100


def identity(source: Any) -> dict[str, Any]:
    """The identity of a data set or another source of tasks, JSON-ready.

    Of a data set: the sizes of its classes and a digest of its examples. Of any other source: its
    class, and its public attributes as far as they are plain values, tensors, inputs, data sets or
    further sources. Attributes that begin with an underscore, functions and generators of random
    numbers do not count.
    """
    if isinstance(source, ClassDataset):
        return _of_dataset(source)
    found: dict[str, Any] = _of_object(source, 0)
    return found | {"first task": _sums(source.episode(0, slice(1)))}


def _sums(task: Episode) -> list[str]:
    """Sums over a task, to few digits, so that they are the same on every machine."""
    found = []
    for part in (task.support, task.query):
        for tensor in (part.inputs, part.targets):
            numbers = tensor.detach().cpu().double().flatten()
            mixed = numbers * torch.cos(torch.arange(len(numbers), dtype=torch.float64))
            found.append(f"{float(mixed.sum()):.4g}")
    return found


def _of_dataset(data: ClassDataset) -> dict[str, Any]:
    return {
        "classes": data.classes,
        "examples": len(data),
        "sizes of classes": _digest(data.sizes),
        "turns": None if data.rotations is None else _digest(data.rotations),
        "shape": list(data.shape),
        "type": str(data.examples.dtype),
        "content": _content(data),
    }


def _content(data: ClassDataset) -> str:
    """A digest of a data set's examples, or of some of them if they are large."""
    ends = torch.cumsum(data.sizes, 0)
    total = len(data)
    row_bytes = max(1, data.examples[:1].nbytes)
    count = total
    if total * row_bytes > MOST_BYTES:
        count = min(total, max(FEWEST_EXAMPLES, min(MOST_EXAMPLES, MOST_BYTES // row_bytes)))
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for first in range(0, count, _ROWS_AT_ONCE):
        numbers = torch.arange(first, min(first + _ROWS_AT_ONCE, count))
        places = numbers * (total - 1) // max(1, count - 1)  # all examples, if count is total
        classes = torch.searchsorted(ends, places, right=True)
        rows = data.starts[classes] + places - (ends - data.sizes)[classes]
        feed(digest, data.examples.index_select(0, rows.to(data.examples.device)))
    return digest.hexdigest()


def _digest(tensor: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    feed(digest, tensor)
    return digest.hexdigest()


def _of_object(thing: Any, depth: int) -> dict[str, Any]:
    """The class of an object and the values of its public attributes."""
    cls = type(thing)
    found: dict[str, Any] = {"class": f"{cls.__module__}.{cls.__qualname__}"}
    if depth > _DEEPEST:
        return found
    if dataclasses.is_dataclass(thing):
        names = [each.name for each in dataclasses.fields(thing)]
    else:
        slots = [name for each in cls.__mro__ for name in getattr(each, "__slots__", ())]
        names = [*getattr(thing, "__dict__", {}), *slots]
    for name in names:
        if not name.startswith("_") and hasattr(thing, name):
            found[name] = _of_value(getattr(thing, name), depth + 1)
    return {name: value for name, value in found.items() if value is not _NOTHING}


_NOTHING: Any = object()
"""Of a value that does not count."""


def _of_value(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth > _DEEPEST:
        return _NOTHING
    if isinstance(value, Tensor):
        return _digest(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, ClassDataset):
        return _of_dataset(value)
    if isinstance(value, Inputs):
        return value.to_dict()
    if isinstance(value, Path | torch.dtype | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        pairs = {str(key): _of_value(each, depth + 1) for key, each in value.items()}
        return {key: each for key, each in pairs.items() if each is not _NOTHING}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)
    if isinstance(value, list | tuple | range):
        return _short([_of_value(each, depth + 1) for each in value])
    if dataclasses.is_dataclass(value) or callable(getattr(value, "episode", None)):
        return _of_object(value, depth)
    return _NOTHING


def _short(values: list[Any]) -> Any:
    """The values that count; a digest of many."""
    values = [each for each in values if each is not _NOTHING]
    if len(values) <= _MOST_LISTED:
        return values
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _of_array(array: Any) -> Any:
    if array.dtype.hasobject:
        return _NOTHING
    digest = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
