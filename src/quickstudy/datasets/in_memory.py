"""Examples as they lie in memory: arrays, lists, columns, data sets of other libraries."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.datasets.columns import LABEL_COLUMNS
from quickstudy.datasets.decoding import decoded_batches
from quickstudy.datasets.kinds import KINDS
from quickstudy.datasets.labels import LABELS_HOW
from quickstudy.inputs import FeatureInputs, Inputs, UnreadableError


def read_examples(examples: Any, labels: Any, inputs: Inputs) -> tuple[Tensor, Any]:
    """Examples as ``inputs`` store them, ``[N, *shape]``, and their N labels.

    Args:
        examples: an array or tensor of all; or things that ``inputs.decode`` takes, in a list, a
            column, or a data set of torch or of the library ``datasets``.
        labels: one each; None where the data set gives pairs of an example and its label, or has a
            column of labels.
        inputs: how things become tensors.

    Raises:
        ValueError: when they cannot be read so; it says what to give.
        UnreadableError: when a single one cannot be decoded (a ValueError too).
    """
    if isinstance(inputs, type) or not isinstance(inputs, Inputs):
        given = inputs.__name__ if isinstance(inputs, type) else type(inputs).__name__
        raise ValueError(
            f"The inputs are {given}; they say how examples become tensors: an object such as "
            "quickstudy.ImageInputs(84) or quickstudy.inputs.FeatureInputs(16)."
        )
    rate = None
    if inputs.kind == "audio" and _is_pair_of_array_and_rate(examples):
        examples, rate = examples
    array = _as_array(examples)
    if array is not None:
        if labels is None:
            raise ValueError(f"There are no labels for the {len(array)} examples. {LABELS_HOW}")
        if not len(array):
            raise ValueError("There are no examples: give at least one.")
        return _stored(array, inputs, rate), labels
    things, labels = _things(examples, labels, inputs)
    if not things:
        raise ValueError("There are no examples: give at least one.")
    if rate is not None:
        things = [(each, rate) for each in things]
    return _decoded(things, inputs), labels


# -- arrays ----------------------------------------------------------------------------------------


def _is_pair_of_array_and_rate(examples: Any) -> bool:
    if not (isinstance(examples, tuple) and len(examples) == 2):
        return False
    return np.ndim(examples[1]) == 0 and getattr(examples[0], "ndim", 1) > 1


def _as_array(given: Any) -> Tensor | None:
    """A tensor of an array of numbers; None of anything else."""
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
        raise ValueError(f"The examples are {found.dtype}; real numbers are needed.")
    if found.dtype in (torch.uint16, torch.uint32, torch.uint64):  # of which torch knows little
        found = found.to(torch.int64)
    if found.ndim < 2:
        raise ValueError(
            f"The examples have the shape {list(found.shape)}; [N, ...] is needed, one row each."
        )
    return found


def _stored(array: Tensor, inputs: Inputs, rate: Any) -> Tensor:
    """What is stored of an array of all examples: itself, where it is of that shape and type."""
    if inputs.kind == FeatureInputs.kind:
        return _vectors(array, inputs)
    if inputs.kind == "text":
        return _tokens(array, inputs)
    if inputs.kind not in KINDS:
        return array  # of somebody's own inputs, whose stored tensors are not known
    things = [*array.cpu()] if rate is None else [(each, rate) for each in array.cpu()]
    if inputs.kind == "image":
        _check_brightness(array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be said of it is said with the others
        sample = _decoded(things[:1], inputs)
    if rate is None and array.dtype == sample.dtype and array.shape[1:] == sample.shape[1:]:
        return array
    return _decoded(things, inputs)


def _check_brightness(array: Tensor) -> None:
    """Refuses images of whole numbers whose brightest is 1: black, if white is 255."""
    if array.dtype.is_floating_point or array.dtype == torch.bool or not array.numel():
        return
    if int(array.amax()) == 1:
        raise ValueError(
            "The largest value of the images is 1, and they are whole numbers, of which 255 is "
            "white. If 1 is white, give truth values (array.astype(bool)) or floats."
        )


def _vectors(array: Tensor, inputs: Inputs) -> Tensor:
    size = getattr(inputs, "size", None)
    if array.ndim != 2 or size not in (None, array.shape[1]):
        flat = ", or use flatten(1)" if array.ndim > 2 else ""
        raise ValueError(
            f"The examples have the shape {list(array.shape)}, and FeatureInputs reads vectors "
            f"[N, {size}]. Give such vectors{flat}; images are read by ImageInputs."
        )
    vectors = array.to(torch.float32)
    if not bool(vectors.isfinite().all()):
        row = int((~vectors.isfinite()).any(1).nonzero()[0])
        raise ValueError(
            f"Example {row} holds a number that is NaN, infinite, or too large for float32; give "
            "finite numbers."
        )
    return vectors


def _tokens(array: Tensor, inputs: Inputs) -> Tensor:
    length = getattr(inputs, "length", None)
    if array.is_floating_point() or array.ndim != 2 or length not in (None, array.shape[1]):
        raise ValueError(
            f"The examples are {array.dtype} of the shape {list(array.shape)}; give texts, or the "
            f"numbers of their subwords as {type(inputs).__name__} stores them: whole numbers "
            f"[N, {length}], 0 behind a text."
        )
    vocabulary = getattr(inputs, "vocabulary", 2**31)
    low, high = int(array.amin()), int(array.amax())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"The numbers of subwords go from {low} to {high}; they must be from 0 to "
            f"{vocabulary - 1}."
        )
    return array.to(torch.int32)


# -- things ----------------------------------------------------------------------------------------


def _things(examples: Any, labels: Any, inputs: Inputs) -> tuple[list[Any], Any]:
    """The single things, and their labels if they came with them."""
    kind = type(examples).__name__
    if isinstance(examples, str | bytes | os.PathLike):
        raise ValueError(
            f"The examples are a single {kind}; give a list with one entry each. A folder or a "
            "table is read by quickstudy.load_dataset."
        )
    if kind == "DataLoader":
        raise ValueError(
            "The examples are a DataLoader, which gives batches; give its data set: loader.dataset."
        )
    if _is_of_library(examples):
        return _of_library(examples, labels, inputs)
    if isinstance(examples, Mapping):
        raise ValueError(
            f"The examples are a {kind} of {', '.join(map(repr, list(examples)[:5]))}; give one of "
            "its values, such as parts['train'] of a DatasetDict."
        )
    columns = getattr(examples, "column_names", getattr(examples, "columns", None))
    if columns is not None:
        names = list(columns)[:8]
        raise ValueError(
            f"The examples are a table ({kind}); choose the column that holds them, one of "
            f"{', '.join(map(str, names))}."
        )
    if hasattr(examples, "to_pylist"):  # of pyarrow
        things = examples.to_pylist()
    elif hasattr(examples, "iloc"):  # whose numbers are those of an index
        things = list(examples)
    elif not isinstance(examples, Iterable) and hasattr(examples, "__getitem__"):
        things = [examples[number] for number in range(_length(examples))]
    elif hasattr(examples, "__getitem__") and hasattr(examples, "__len__"):
        # A data set of torch is iterable by its numbers, but has no end of its own.
        things = [examples[number] for number in range(len(examples))]
    elif isinstance(examples, Iterable):
        most = None if labels is None or not hasattr(labels, "__len__") else len(labels) + 1
        things = list(islice(examples, most))
    else:
        raise ValueError(
            f"The examples are a {kind}; give an array, or a list of things that "
            f"{type(inputs).__name__} reads."
        )
    return _unpaired(things, labels, examples, inputs)


def _length(examples: Any) -> int:
    if not hasattr(examples, "__len__"):
        raise ValueError(
            f"The examples are a {type(examples).__name__}, which does not say how many they are "
            "(no __len__); give a list."
        )
    return len(examples)


def _unpaired(things: list[Any], labels: Any, source: Any, inputs: Inputs) -> tuple[list[Any], Any]:
    """Splits pairs of an example and its label, as data sets of torch give them."""
    first: Any = things[0] if things else None
    is_row = isinstance(first, tuple | list) and not _is_numbers(first)
    is_sound = inputs.kind == "audio" and isinstance(first, tuple) and len(first) == 2
    if is_sound and labels is not None:
        return things, labels  # samples and their rate
    if is_row and len(first) == 1:
        things, is_row = [each[0] for each in things], False
    if is_row and len(first) == 2:
        if labels is not None:
            raise ValueError(
                "The examples are pairs, of an example and its label perhaps, and labels were "
                "given too. Leave the labels out (labels=None), or give the examples alone."
            )
        names = getattr(source, "classes", None)
        found = [each[1] for each in things]
        return [each[0] for each in things], _named(found, names)
    if is_row:
        raise ValueError(
            f"Each example is a {type(first).__name__} of {len(first)}; a thing by itself is "
            "needed, or a pair of it and its label (labels=None)."
        )
    if labels is None:
        raise ValueError(f"There are no labels for the {len(things)} examples. {LABELS_HOW}")
    return things, labels


def _is_numbers(row: Any) -> bool:
    return all(isinstance(each, int | float | np.number) for each in row)


def _named(labels: list[Any], names: Any) -> Any:
    """Numbers of classes as the names that a data set of torchvision has for them."""
    named = isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)
    if not named or not all(isinstance(n, int) and 0 <= n < len(names) for n in labels):
        return labels
    return [names[number] for number in labels]


def _is_of_library(given: Any) -> bool:
    """Whether it is a whole data set of the library ``datasets``."""
    is_theirs = type(given).__module__.partition(".")[0] == "datasets"
    return is_theirs and hasattr(given, "features") and not hasattr(given, "column_name")


def _of_library(table: Any, labels: Any, inputs: Inputs) -> tuple[list[Any], Any]:
    if not hasattr(table, "__len__"):
        raise ValueError(
            f"The examples are a {type(table).__name__}, which is streamed; load it without "
            "streaming, or give a list of some of its examples."
        )
    features = table.features
    of_kind = {"image": "Image", "audio": "Audio"}.get(inputs.kind)
    usual = KINDS[inputs.kind].columns if inputs.kind in KINDS else ()
    chosen = [name for name, each in features.items() if type(each).__name__ == of_kind]
    by_name = {name.lower(): name for name in features}
    if len(chosen) != 1:
        among = {name.lower(): name for name in chosen} or by_name
        chosen = [among[name] for name in usual if name in among][:1]
    if not chosen:
        raise ValueError(
            f"It is not clear which column holds the examples: {', '.join(features)}. Give the "
            "column: data['name']."
        )
    if labels is None:
        classes = [name for name, each in features.items() if hasattr(each, "names")]
        if len(classes) != 1:
            classes = [by_name[name] for name in LABEL_COLUMNS if name in by_name][:1]
        if not classes:
            raise ValueError(
                f"It is not clear which column holds the labels: {', '.join(features)}. Give them: "
                "labels=data['name']."
            )
        labels = table[classes[0]]
        if not hasattr(labels, "column_name"):  # of older versions
            feature = features[classes[0]]
            labels = _named(list(labels), getattr(feature, "names", None))
    return list(table[chosen[0]]), labels


def _decoded(things: Sequence[Any], inputs: Inputs) -> Tensor:
    rows = ((str(number), _raw(each)) for number, each in enumerate(things))
    decoded: list[Tensor] = []
    for batch in decoded_batches(rows, inputs):
        for number, stored in batch:
            if isinstance(stored, UnreadableError):
                raise UnreadableError(f"Example {number} cannot be used. {stored}") from stored
            decoded.append(stored)
    shapes = {tuple(each.shape) for each in decoded}
    if len(shapes) > 1:
        raise ValueError(
            f"The examples have different shapes once they are decoded: {sorted(shapes)[:3]}; "
            f"{type(inputs).__name__}.decode must give one."
        )
    return torch.stack(decoded)


def _raw(thing: Any) -> Any:
    """A thing as ``Inputs.decode`` takes it; files of ``datasets`` by what they hold."""
    if isinstance(thing, Mapping) and {"bytes", "path"} >= set(thing) and thing:
        content = thing.get("bytes")
        return Path(thing["path"]) if content is None and thing.get("path") else content
    if isinstance(thing, np.str_):
        return str(thing)
    return thing
