"""The single items in what people have: lists, columns, data sets of other libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from quickstudy.datasets.sources.columns import LABEL_COLUMNS, by_usual_names
from quickstudy.errors import InputError
from quickstudy.inputs.audio import is_recording
from quickstudy.inputs.modalities import MODALITIES


def unpacked(
    given: Any, modality: str | None, labels: Any = None, one_by_one: bool = False
) -> tuple[list[Any], Any]:
    """The single items, and their labels if these came with them (else None).

    Args:
        given: items in a list, a column or an iterator; or a data set of torch or of the library
            ``datasets``, of items alone or with their labels.
        modality: modality of the items, as in ``Inputs.modality``; None if it is not known yet.
        labels: labels that were given separately, if any.
        one_by_one: ignore labels that came with the items, because none are needed.

    Raises:
        ValueError: if it is something else; the message states what to give.
    """
    name = type(given).__name__
    if isinstance(given, str | bytes | os.PathLike):
        raise InputError(
            f"The examples are a single {name}; give a list with one entry per example. To read a "
            "folder or a table, use quickstudy.load_dataset."
        )
    if _gives_batches(given):
        raise InputError(
            f"The examples are a {name}, which gives batches; give its data set: loader.dataset."
        )
    if hasattr(given, "class_names") and hasattr(given, "gather"):
        raise InputError(
            f"The examples are a {name}, which is for training and evaluation and holds prepared "
            "examples; give those that it was made of: a list of images, texts, sounds or paths, "
            "or an array."
        )
    if _is_of_library(given):
        return _of_library(given, modality, labels, one_by_one)
    if isinstance(given, Mapping):
        keys = ", ".join(map(repr, list(given)[:5]))
        raise InputError(
            f"The examples are a {name} with the keys {keys}; give one of its values, such as "
            "parts['train'] of a DatasetDict."
        )
    columns = getattr(given, "column_names", getattr(given, "columns", None))
    if columns is not None:
        raise InputError(
            f"The examples are a table ({name}); choose the column that holds them, one of "
            f"{', '.join(map(str, list(columns)[:8]))}."
        )
    most = None if labels is None or not hasattr(labels, "__len__") else len(labels) + 1
    items = [_raw(each) for each in _listed(given, most)]
    if items and _is_record(items[0], modality):
        return _of_records(items, modality, labels, one_by_one)
    return _unpaired(items, _names_of_classes(given), modality, labels, one_by_one)


def _listed(given: Any, most: int | None) -> list[Any]:
    if hasattr(given, "to_pylist"):  # of pyarrow
        return list(given.to_pylist())
    if hasattr(given, "iloc"):  # indexing a pandas column goes by its index
        return list(given)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        # A torch data set can be iterated by number, but the iteration can be endless.
        return [given[number] for number in range(len(given))]
    if isinstance(given, Iterable):
        return list(islice(given, most))
    if hasattr(given, "__getitem__"):
        raise InputError(
            f"The examples are a {type(given).__name__}, which has no length (__len__); give a "
            "list."
        )
    raise InputError(
        f"The examples are a {type(given).__name__}; give an array, or a list with one entry each."
    )


def _unpaired(
    items: list[Any], names: Any, modality: str | None, labels: Any, one_by_one: bool
) -> tuple[list[Any], Any]:
    """Splits pairs of an example and its label, as torch data sets return them."""
    first: Any = items[0] if items else None
    is_row = isinstance(first, tuple | list) and not _is_numbers(first)
    if _is_sound_and_rate(first, modality, is_item=labels is not None or one_by_one):
        return items, None
    if is_row and len(first) == 1:
        items, is_row = [each[0] for each in items], False
    if not is_row:
        return items, None
    if len(first) != 2:
        raise InputError(
            f"Each example is a {type(first).__name__} of length {len(first)}; give single items, "
            "or pairs of an item and its label (labels=None)."
        )
    if labels is not None:
        raise InputError(
            "The examples are pairs, perhaps of an example and its label, but labels were given "
            "too. Leave the labels out (labels=None), or give only the examples."
        )
    found = None if one_by_one else _named([each[1] for each in items], names)
    return [each[0] for each in items], found


def _is_sound_and_rate(pair: Any, modality: str | None, is_item: bool) -> bool:
    """Whether a pair holds samples and their rate, rather than an example and its label.

    Args:
        pair: the first example.
        modality: modality of the examples, if known.
        is_item: whether examples come without labels, because these were given or none are needed.
    """
    if not isinstance(pair, tuple) or len(pair) != 2 or not is_item:
        return False
    has_samples = isinstance(pair[0], list) or getattr(pair[0], "ndim", 0) in (1, 2)
    is_rate = isinstance(pair[1], int | float | np.number)
    return modality == "audio" or (modality is None and has_samples and is_rate)


def _is_numbers(row: Any) -> bool:
    return all(isinstance(each, int | float | np.number) for each in row)


def _names_of_classes(given: Any) -> Any:
    """Those that a data set of torchvision has, or the one that it is a part of."""
    own = getattr(given, "classes", None)
    inner = getattr(given, "dataset", None)
    return own if own is not None or inner is None else _names_of_classes(inner)


def _is_record(item: Any, modality: str | None) -> bool:
    """Whether an example is a dictionary that holds the item and perhaps its label."""
    known = modality is None or modality in MODALITIES
    return known and isinstance(item, Mapping) and not is_recording(item)


def _of_records(
    records: list[Any], modality: str | None, labels: Any, one_by_one: bool
) -> tuple[list[Any], Any]:
    first = records[0]
    items = by_usual_names(
        first, [name for each in _modalities(modality) for name in MODALITIES[each].columns]
    )
    classes = by_usual_names(first, LABEL_COLUMNS)
    lacking = "example" if not items else "label"
    if not items or (not classes and labels is None and not one_by_one):
        keys = ", ".join(map(repr, first)) or "no keys"
        raise InputError(
            f"Each example is a {type(first).__name__} with {keys}, and it is not clear which is "
            f"the {lacking}. Give the examples and their labels in two lists, such as "
            "[each['image'] for each in data]."
        )
    found = None if one_by_one or labels is not None else [each[classes[0]] for each in records]
    return [_raw(each[items[0]]) for each in records], found


def _modalities(modality: str | None) -> list[str]:
    return [*MODALITIES] if modality is None else [each for each in MODALITIES if each == modality]


def _named(labels: list[Any], names: Any) -> Any:
    """Class numbers replaced by the class names of a torchvision data set."""
    named = isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)
    if not named or not all(isinstance(n, int) and 0 <= n < len(names) for n in labels):
        return labels
    return [names[number] for number in labels]


def _gives_batches(given: Any) -> bool:
    """Whether an object is a loader of batches: iterable, with a data set as attribute."""
    is_loader = isinstance(given, Iterable) and not isinstance(given, Iterator | list | tuple)
    has_batches = hasattr(given, "batch_size") and hasattr(given, "dataset")
    return is_loader and has_batches and not hasattr(given, "__getitem__")


def _is_of_library(given: Any) -> bool:
    """Whether an object is a whole data set of the library ``datasets``."""
    is_theirs = type(given).__module__.partition(".")[0] == "datasets"
    return is_theirs and hasattr(given, "features") and not hasattr(given, "column_name")


def _of_library(
    table: Any, modality: str | None, labels: Any, one_by_one: bool
) -> tuple[list[Any], Any]:
    if not hasattr(table, "__len__"):
        raise InputError(
            f"The examples are a {type(table).__name__}, which is streamed; load it without "
            "streaming, or give a list of some of its examples."
        )
    chosen = _column_of_items(table.features, modality)
    found = None if one_by_one or labels is not None else _labels_of_library(table)
    return [_raw(each) for each in table[chosen]], found


def _column_of_items(features: Mapping[str, Any], modality: str | None) -> str:
    of_modality = {MODALITIES[each].feature for each in _modalities(modality)}
    chosen = [name for name, each in features.items() if type(each).__name__ in of_modality]
    if len(chosen) != 1:
        usual = [name for each in _modalities(modality) for name in MODALITIES[each].columns]
        chosen = by_usual_names(chosen or features, usual)
    if not chosen:
        raise InputError(
            f"It is not clear which column holds the examples: {', '.join(features)}. Give the "
            "column: data['name']."
        )
    return chosen[0]


def _labels_of_library(table: Any) -> Any:
    features = table.features
    classes = [name for name, each in features.items() if hasattr(each, "names")]
    if len(classes) != 1:
        classes = by_usual_names(features, LABEL_COLUMNS)
    if not classes:
        raise InputError(
            f"It is not clear which column holds the labels: {', '.join(features)}. Give them: "
            "labels=data['name']."
        )
    labels = table[classes[0]]
    if not hasattr(labels, "column_name"):  # of older versions
        feature = features[classes[0]]
        labels = _named(list(labels), getattr(feature, "names", None))
    return labels


def _raw(item: Any) -> Any:
    """An example as ``Inputs.decode`` takes it; for a file of ``datasets``, its content."""
    if isinstance(item, Mapping) and {"bytes", "path"} >= set(item) and item:
        content = item.get("bytes")
        return Path(item["path"]) if content is None and item.get("path") else content
    if isinstance(item, np.str_):
        return str(item)
    return item
