"""Examples in memory: arrays, lists, columns, data sets of other libraries."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.datasets.decoded.decoding import decoded_tensor
from quickstudy.datasets.items import unpacked
from quickstudy.datasets.labels import LABELS_HOW
from quickstudy.errors import InputError
from quickstudy.inputs import FeatureInputs, Inputs
from quickstudy.inputs.inputs import check_inputs
from quickstudy.inputs.modalities import MODALITIES


def read_examples(examples: Any, labels: Any, inputs: Inputs) -> tuple[Tensor, Any]:
    """Examples as ``inputs`` store them, ``[N, *shape]``, and their N labels.

    Args:
        examples: an array or tensor of all examples; or single examples that ``inputs.decode``
            takes, in a list, a column, or a data set of torch or of the library ``datasets``.
        labels: one per example; None if the data set consists of pairs of an example and its label,
            or has a column of labels.
        inputs: converts examples to tensors.

    Raises:
        ValueError: when examples or labels cannot be read; the message states what to give.
        UnreadableError: when a single one cannot be decoded (a ValueError too).
    """
    check_inputs(inputs)
    rate = None
    if inputs.modality == "audio" and _is_pair_of_array_and_rate(examples):
        examples, rate = examples
    array = _as_array(examples)
    if array is not None:
        if labels is None:
            raise InputError(f"There are no labels for the {len(array)} examples. {LABELS_HOW}")
        if not len(array):
            raise InputError("There are no examples: give at least one.")
        return _stored(array, inputs, rate), labels
    items, found = unpacked(examples, inputs.modality, labels)
    labels = found if labels is None else labels
    if labels is None:
        raise InputError(f"There are no labels for the {len(items)} examples. {LABELS_HOW}")
    if not items:
        raise InputError("There are no examples: give at least one.")
    if rate is not None:
        items = [(each, rate) for each in items]
    return decoded_tensor(items, inputs, "Example"), labels


def as_stored(examples: Any, inputs: Inputs) -> Tensor:
    """A tensor ``[N, *shape]`` of stored examples; data in any other form are read first.

    Only a few values are inspected, because they can be memory-mapped.

    Raises:
        ValueError: when it is no array, or of numbers that cannot be read so.
    """
    array = _as_array(examples)
    if array is None:
        raise InputError(
            f"The examples are a {type(examples).__name__}; an array [N, ...] is needed. Single "
            "things are taken by ClassDataset.from_arrays."
        )
    if not len(array) or inputs.modality not in ("image", "audio"):
        return array
    is_stored = not array.is_floating_point()
    if inputs.modality == "image":
        if array.ndim < 3:
            return array  # of images that were embedded, say
        is_stored &= array.ndim == 4 and array.shape[1] == getattr(inputs, "channels", 3)
    else:
        is_stored &= array.ndim == 2
    return array if is_stored else _stored(array, inputs, None)


def _is_pair_of_array_and_rate(examples: Any) -> bool:
    if not (isinstance(examples, tuple) and len(examples) == 2):
        return False
    return np.ndim(examples[1]) == 0 and getattr(examples[0], "ndim", 1) > 1


def _as_array(given: Any) -> Tensor | None:
    """An array of numbers as a tensor; None for anything else."""
    if isinstance(given, Tensor):
        found = given.detach()
    elif hasattr(given, "iloc") or hasattr(given, "to_numpy") or isinstance(given, np.ndarray):
        array = np.asarray(given)
        if array.dtype.kind not in "biufc":
            return None
        if array.dtype.newbyteorder("=") != array.dtype or any(n < 0 for n in array.strides):
            array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        found = torch.from_numpy(array if array.flags.writeable else array.copy())
    else:
        return None
    if found.is_complex():
        raise InputError(f"The examples are {found.dtype}; give real numbers.")
    if found.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch supports little for these
        found = found.to(torch.int64)
    if found.ndim < 2:
        raise InputError(
            f"The examples have the shape {list(found.shape)}; give [N, ...], one row per example."
        )
    return found


def _stored(array: Tensor, inputs: Inputs, rate: Any) -> Tensor:
    """The stored form of an array of all examples: the array itself if its shape and type fit."""
    if inputs.modality == FeatureInputs.modality:
        return _vectors(array, inputs)
    if inputs.modality == "text":
        return _tokens(array, inputs)
    if inputs.modality not in MODALITIES:
        return array  # the shape that custom inputs store is not known
    items = [*array.cpu()] if rate is None else [(each, rate) for each in array.cpu()]
    if inputs.modality == "image":
        check_brightness(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning comes with those of the other examples
        sample = decoded_tensor(items[:1], inputs, "Example")
    if rate is None and array.dtype == sample.dtype and array.shape[1:] == sample.shape[1:]:
        return array
    return decoded_tensor(items, inputs, "Example")


def check_brightness(images: Tensor | NDArray[Any]) -> None:
    """Refuses images of whole numbers up to 1, which are almost black if white is 255."""
    if isinstance(images, Tensor):
        are_whole = not images.dtype.is_floating_point and images.dtype != torch.bool
    else:
        are_whole = images.dtype.kind in "iu"
    if are_whole and 0 not in images.shape and int(images.max()) == 1:
        raise InputError(
            "The largest value of the images is 1, but in images of whole numbers 255 is white. If "
            "1 is white, give booleans (array.astype(bool)) or floats."
        )


def _vectors(array: Tensor, inputs: Inputs) -> Tensor:
    size = getattr(inputs, "size", None)
    if array.ndim != 2 or size not in (None, array.shape[1]):
        flat = ", or use flatten(1)" if array.ndim > 2 else ""
        raise InputError(
            f"The examples have the shape {list(array.shape)}, but FeatureInputs reads vectors [N, "
            f"{size}]. Give such vectors{flat}; for images use ImageInputs."
        )
    vectors = array.to(torch.float32)
    if not bool(vectors.isfinite().all()):
        row = int((~vectors.isfinite()).any(1).nonzero()[0])
        raise InputError(
            f"Example {row} holds a number that is NaN, infinite, or too large for float32; give "
            "finite numbers."
        )
    return vectors


def _tokens(array: Tensor, inputs: Inputs) -> Tensor:
    length = getattr(inputs, "length", None)
    if array.is_floating_point() or array.ndim != 2 or length not in (None, array.shape[1]):
        raise InputError(
            f"The examples are {array.dtype} of the shape {list(array.shape)}; give texts, or "
            f"their token numbers as {type(inputs).__name__} stores them: whole numbers [N, "
            f"{length}], padded with 0 at the end."
        )
    vocabulary = getattr(inputs, "vocabulary", 2**31)
    low, high = int(array.amin()), int(array.amax())
    if low < 0 or high >= vocabulary:
        raise InputError(
            f"The token numbers range from {low} to {high}; they must lie between 0 and "
            f"{vocabulary - 1}."
        )
    return array.to(torch.int32)
