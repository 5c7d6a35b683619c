"""Labels as users give them: lists, arrays, columns of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.datasets.given_labels import as_labels, one_spelling
from quickstudy.errors import InputError

LABELS_HOW = "Give a list with one label for each example."


def read_labels(labels: Any) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the classes, sorted, and the number of each label's class.

    Numbers sort as numbers.

    Args:
        labels: strings, whole numbers or booleans for N examples, in a list, an array, a tensor or
            a column. If a column of the library ``datasets`` names its classes, these names are
            used, in their order.

    Raises:
        ValueError: when labels have mixed types, are missing, or have a type that labels cannot
            have.
    """
    names = _names_of_classes(labels)
    array = _as_labels(labels)
    if names is not None and array.dtype.kind in "iu":
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < len(names):
            raise InputError(
                f"The labels range from {array.min()} to {array.max()}, but {len(names)} classes "
                "are named. Leave out examples without a label first."
            )
        values, codes = np.unique(array, return_inverse=True)
        return [names[number] for number in values.tolist()], codes
    values, codes = np.unique(array, return_inverse=True)
    return [str(each) for each in values.tolist()], codes


def _names_of_classes(labels: Any) -> Sequence[str] | None:
    """The class names of a column of the library ``datasets``."""
    feature = getattr(labels, "features", None)
    if isinstance(feature, Mapping):
        feature = feature.get(getattr(labels, "column_name", None))
    source = getattr(labels, "source", None)
    if not hasattr(feature, "names") and source is not None:
        feature = source.features.get(getattr(labels, "column_name", None))
    names: Sequence[str] | None = getattr(feature, "names", None)
    return names


def _as_labels(labels: Any) -> NDArray[Any]:
    """Labels as an array ``[N]`` of a single sortable type."""
    not_listed = isinstance(labels, str | bytes | Mapping | set | frozenset)
    if not_listed or not isinstance(labels, Iterable):
        raise InputError(f"The labels are a {type(labels).__name__}. {LABELS_HOW}")
    shape = getattr(labels, "shape", None)
    if shape is not None and len(shape) > 1:
        if len(shape) > 2 or shape[1] != 1:
            raise InputError(
                f"The labels have the shape {list(shape)}; give one label per example, [N]. To "
                "turn one-hot rows into labels, use argmax(1)."
            )
        labels = labels[:, 0] if isinstance(labels, Tensor) else np.asarray(labels)[:, 0]
    if hasattr(labels, "to_pylist"):
        labels = labels.to_pylist()
    if not hasattr(labels, "__array__"):
        labels = [_named_label(each, number) for number, each in enumerate(labels)]
    return one_spelling(as_labels(labels))


def named_labels(labels: Any) -> Any:
    """Labels by the names of their classes, where a column of the library ``datasets`` has some."""
    names = _names_of_classes(labels)
    return labels if names is None else [names[number] for number in labels]


def _named_label(label: Any, number: int) -> Any:
    """A label, those by the names of files and of enumerations by what they stand for."""
    holds_several = isinstance(label, list | tuple | set | frozenset | Mapping)
    if holds_several or (isinstance(label, np.ndarray | Tensor) and label.ndim):
        raise InputError(
            f"The label of example {number} is a {type(label).__name__}; labels are strings, whole "
            "numbers or booleans, one label for each example."
        )
    if isinstance(label, Enum):
        return label.value
    return label.decode(errors="replace") if isinstance(label, bytes) else label
