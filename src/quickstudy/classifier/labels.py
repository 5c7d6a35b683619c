"""The names of classes, as scikit-learn takes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[Any]


def as_labels(y: Any, inputs: int) -> Labels:
    """One label for each input, ``[N]``: strings, whole numbers or booleans.

    Raises:
        ValueError: when there are more or fewer labels than inputs, or they are of several types,
            missing, or no names of classes.
    """
    check_one_type(y)
    labels = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y)
    if labels.ndim != 1:
        raise ValueError(f"Labels are one to an input, [N]; their shape is {list(labels.shape)}.")
    if len(labels) != inputs:
        raise ValueError(
            f"There are {inputs} inputs and {len(labels)} labels; each input needs one label."
        )
    _check_none_missing(labels.tolist())
    return labels


def check_one_type(y: Any) -> None:
    """Refuses labels that are missing, or of which some are strings and some not (ValueError)."""
    kind = getattr(getattr(y, "dtype", None), "kind", None)
    if isinstance(y, list | tuple) or (kind in ("O", "b") and y.ndim):
        _check_none_missing(y)
        if len({isinstance(each, str) for each in y}) > 1:
            raise ValueError("Some labels are strings and some are not; use one type for all.")


def _check_none_missing(labels: Iterable[Any]) -> None:
    for number, each in enumerate(labels):
        of_pandas = type(each).__name__ in ("NAType", "NaTType")
        if each is None or of_pandas or (isinstance(each, float) and math.isnan(each)):
            raise ValueError(f"Label {number} is missing (None or NaN); each needs one.")


def joined(old: Labels, new: Labels) -> Labels:
    """Old labels and new ones; refused where some are strings and some are not (ValueError)."""
    if len(old) and len(new) and isinstance(old[0], str) != isinstance(new[0], str):
        raise ValueError(
            f"The classes so far are called like {old.tolist()[0]!r}, and the new ones like "
            f"{new.tolist()[0]!r}; use one type for all labels."
        )
    return np.concatenate([old, new])


def classes_and_targets(labels: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """The sorted classes ``[K]``, and the number ``[N]`` of each label's class.

    Raises:
        ValueError: when there is one class only.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        only = classes.tolist()
        raise ValueError(
            f"There is only one class, {only[0]!r}: telling classes apart takes examples of two "
            "at least."
        )
    return classes, targets.reshape(-1)


def as_typed(label: str, classes: Labels) -> str | int:
    """A label that was typed, in the type of the classes (ValueError where that is impossible)."""
    if not label.strip():
        raise ValueError("The name of the class is empty; give it one.")
    if isinstance(classes[0], str):
        return label
    if classes.dtype.kind in "iu":
        try:
            return int(label)
        except ValueError as error:
            raise ValueError(
                f"The classes are whole numbers such as {classes[0]}; {label!r} is none."
            ) from error
    raise ValueError(f"Classes like {classes[0]!r} can be added to from Python only.")
