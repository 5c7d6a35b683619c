"""The modality of given inputs, and their single items."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from quickstudy.datasets.items import unpacked
from quickstudy.datasets.labels import named_labels
from quickstudy.errors import InputError
from quickstudy.inputs.audio import is_recording
from quickstudy.inputs.modalities import modality_of_file

_LONGEST_PATH = 4096
_SOUND_BEGINNINGS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")


def is_array(raw: Any) -> bool:
    """Whether ``raw`` is one array of numbers (a tensor, an array, a table), not single items."""
    if isinstance(raw, Tensor) or hasattr(raw, "tocsr"):
        return True
    if isinstance(raw, list | tuple):
        # Rows of different lengths are sounds, and so is a row with a rate beside it.
        return bool(raw) and all(map(_is_row, raw)) and len({np.shape(row) for row in raw}) == 1
    if not hasattr(raw, "__array__"):
        return False
    array = np.asarray(raw)
    first = array.flat[0] if array.size else None
    one_column = array.shape[1:] == (1,) and not isinstance(first, int | float | np.number)
    numbers_in_objects = array.dtype.kind == "O" and array.ndim > 1 and not one_column
    return array.dtype.kind in "biufc" or numbers_in_objects


def _is_row(raw: Any) -> bool:
    if isinstance(raw, Tensor):
        return raw.ndim == 1
    if isinstance(raw, list | np.ndarray | Tensor):
        return np.ndim(raw) == 1 and all(isinstance(n, int | float | np.number) for n in raw[:1])
    return isinstance(raw, int | float | np.number)


def inputs_and_labels(raw: Any, labels: Any, modality: str | None) -> tuple[Any, Any]:
    """Inputs and their labels, out of the data set that holds both where no labels are given.

    What is an array, a list of inputs or a column stays as it is.

    Raises:
        ValueError: when it is not a data set, or labels were given beside a data set with labels.
    """
    if _is_read_elsewhere(raw):
        return raw, labels
    single, found = unpacked(raw, modality, labels)
    return single, labels if found is None else named_labels(found)


def inputs_alone(raw: Any, modality: str | None) -> Any:
    """Inputs as :func:`inputs_and_labels` has them, without the labels that came with them."""
    return raw if _is_read_elsewhere(raw) else unpacked(raw, modality, one_by_one=True)[0]


def _is_read_elsewhere(raw: Any) -> bool:
    """Whether it is an array, a table or a single item rather than a collection of items."""
    is_single = isinstance(raw, str | bytes | Path) or raw is None or np.isscalar(raw)
    is_unordered = isinstance(raw, set | frozenset | Mapping)
    is_table = hasattr(raw, "iloc") or hasattr(raw, "ndim")
    return is_single or is_unordered or is_table or is_array(raw)


def items(raw: Any) -> list[Any]:
    """The single items of a list, an array or a column of a table.

    Raises:
        ValueError: when a single item or a collection without an order was given, or a table of
            several columns one of which holds texts.
    """
    if isinstance(raw, str | bytes | Path) or getattr(raw, "ndim", None) == 0:
        raise InputError(
            f"A list of inputs is needed, one entry each; a single {type(raw).__name__} was given. "
            "Put it in a list."
        )
    if isinstance(raw, Mapping):
        raise InputError(
            f"A {type(raw).__name__} of inputs was given ({', '.join(map(repr, list(raw)[:5]))}); "
            "give a list, or one of its values, such as parts['train']."
        )
    if isinstance(raw, set | frozenset):
        raise InputError(
            f"A {type(raw).__name__} of inputs was given; give a list, which keeps the order that "
            "the labels have."
        )
    check_columns(raw)
    if hasattr(raw, "iloc"):  # of a table with one column, not the column's name
        raw = np.asarray(raw)
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "UO" and raw.ndim > 1:
        raw = raw.reshape(-1) if raw.size == len(raw) else raw
    if not hasattr(raw, "__iter__"):
        raise InputError(f"A list of inputs is needed, not a {type(raw).__name__}.")
    return list(raw)


def check_columns(raw: Any) -> None:
    """Refuses a table of several columns of which one holds texts or images (ValueError)."""
    if not hasattr(raw, "iloc") or raw.ndim < 2 or raw.shape[1] < 2 or not len(raw):
        return
    for name, first in zip(raw.columns, raw.iloc[0], strict=True):
        is_word = isinstance(first, str) and not _is_number(first)
        is_item = isinstance(first, bytes | Path | np.ndarray | Tensor | Image.Image)
        if is_word or is_item:
            held = "texts" if is_word else f"a {type(first).__name__} in each row"
            raise InputError(
                f"The table has {raw.shape[1]} columns, and {name!r} holds {held}: choose one "
                f"column, as df[{name!r}] does."
            )


def modality_of(raw: Sequence[Any]) -> str:
    """The modality of items, "image", "text" or "audio", judged by the first of them.

    A string that names a file, or ends as files of images and sounds do, is a path; any other is a
    text.

    Raises:
        ValueError: when it is none of them, or there are no items.
    """
    if not len(raw):
        raise InputError("There are no inputs: give at least one.")
    first = raw[0]
    if isinstance(first, str) and not _is_path(first):
        return "text"
    if isinstance(first, str | Path):
        return modality_of_file(str(first)) or "image"
    if isinstance(first, bytes):
        return "audio" if first.startswith(_SOUND_BEGINNINGS) else "image"
    if isinstance(first, tuple) or is_recording(first):  # samples with their sampling rate
        return "audio"
    if isinstance(first, np.ndarray | Tensor):
        return "image" if first.ndim >= 2 else "audio"
    if type(first).__module__.partition(".")[0] == "PIL":
        return "image"
    raise InputError(
        f"Inputs of type {type(first).__name__} are unknown: arrays of features, images, texts, "
        "sounds, or paths to files of them are needed."
    )


def is_guess(raw: Sequence[Any]) -> bool:
    """Whether :func:`modality_of` may be wrong.

    A string can be a text that ends as files do; bytes, arrays and files may be of any modality
    unless the name of a file says which.
    """
    first = raw[0]
    if isinstance(first, Path):
        return modality_of_file(str(first)) is None
    if isinstance(first, str):
        return _is_path(first)
    return isinstance(first, bytes | np.ndarray | Tensor)


def names_of(raw: Any) -> list[str]:
    """The name of each item: a text names itself, a file has its path, anything else is empty."""
    if is_array(raw):
        return [""] * len(raw)
    return [str(each) if isinstance(each, str | Path) else "" for each in items(raw)]


def as_tensor(array: Any) -> Tensor:
    """An array of numbers, or a list of such arrays, as a tensor of its own; float32 at least.

    Whole numbers stay what they are.

    Raises:
        TypeError: when they are not arrays of numbers of one shape.
        ValueError: when one holds something that is not a finite number.
    """
    try:
        if isinstance(array, list | tuple) and array and isinstance(array[0], Tensor):
            array = torch.stack(list(array))
        if isinstance(array, Tensor):
            tensor = array.detach().clone()
        else:
            copy = np.array(array)  # torch warns of arrays it cannot write
            tensor = torch.from_numpy(copy)
    except (ValueError, RuntimeError) as error:
        raise TypeError(str(error)) from error
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        row = int((~tensor.isfinite()).flatten(1).any(1).nonzero()[0])
        raise InputError(f"Input {row} holds NaN or infinity; give finite numbers.")
    return tensor


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_path(text: str) -> bool:
    is_named_so = modality_of_file(text) in ("image", "audio")
    # Path.is_file would raise where a text cannot be a path.
    return len(text) < _LONGEST_PATH and (is_named_so or os.path.isfile(text))  # noqa: PTH113
