"""Labels as people have them: lists, arrays, columns of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LABELS_HOW = "Give a list with one label for each example."


def read_labels(labels: Any) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the classes, sorted, and the number of each label's class.

    Numbers sort as numbers.

    Args:
        labels: of N examples: strings, whole numbers or truth values, in a list, an array, a
            tensor or a column. Where a column of the library ``datasets`` names its classes, these
            names are taken, in their order.

    Raises:
        ValueError: when they are of mixed types, missing, or no labels.
    """
    names = _names_of_classes(labels)
    array = _as_labels(labels)
    if names is not None and array.dtype.kind in "iu":
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < len(names):
            raise ValueError(
                f"The labels go from {array.min()} to {array.max()}, and {len(names)} classes are "
                "named. Leave out examples without a label first."
            )
        values, codes = np.unique(array, return_inverse=True)
        return [names[number] for number in values.tolist()], codes
    values, codes = np.unique(array, return_inverse=True)
    return [str(each) for each in values.tolist()], codes


def _names_of_classes(labels: Any) -> Sequence[str] | None:
    """The names that a column of the library ``datasets`` has for its classes."""
    feature = getattr(labels, "features", None)
    if isinstance(feature, Mapping):
        feature = feature.get(getattr(labels, "column_name", None))
    source = getattr(labels, "source", None)
    if not hasattr(feature, "names") and source is not None:
        feature = source.features.get(getattr(labels, "column_name", None))
    names: Sequence[str] | None = getattr(feature, "names", None)
    return names


def _as_labels(labels: Any) -> NDArray[Any]:
    """Labels as an array ``[N]`` of one kind of values that can be sorted."""
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise ValueError(f"The labels are a {type(labels).__name__}. {LABELS_HOW}")
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu()
        labels = (labels.float() if labels.dtype == torch.bfloat16 else labels).numpy()
    if hasattr(labels, "to_pylist"):
        labels = labels.to_pylist()
    shape = getattr(labels, "shape", None)
    if shape is not None and len(shape) > 1:
        if len(shape) > 2 or shape[1] != 1:
            raise ValueError(
                f"The labels have the shape {list(shape)}; one label for each example is needed, "
                "[N]. Rows with a one at the class become labels by argmax(1)."
            )
        labels = np.asarray(labels)[:, 0]
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuU":
        return labels
    plain = [_plain_label(each, number) for number, each in enumerate(labels)]
    kinds = {type(each) for each in plain}
    if float in kinds:
        wrong = [each for each in plain if isinstance(each, float) and not each.is_integer()]
        if wrong:
            raise ValueError(
                f"The label {wrong[0]} is no class; labels are words or whole numbers."
            )
        kinds -= {int} if kinds == {int, float} else set()
    if len(kinds) > 1:
        called = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"The labels are of mixed types ({called}), so that it is not clear which are the same "
            "class. Give all as strings, or all as whole numbers."
        )
    return np.array(plain)


def _plain_label(label: Any, number: int) -> str | int | float | bool:
    if isinstance(label, Enum):
        label = label.value
    if isinstance(label, np.generic | Tensor) and np.ndim(label) == 0:
        label = label.item()
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if label is None or label != label or type(label).__name__ in ("NAType", "NaTType"):
        raise ValueError(f"Example {number} has no label ({label!r}); leave it out or give one.")
    if isinstance(label, str):
        return str(label)
    if isinstance(label, bool | int | float):
        return label
    raise ValueError(
        f"The label of example {number} is a {type(label).__name__}; labels are strings, whole "
        "numbers or truth values."
    )
