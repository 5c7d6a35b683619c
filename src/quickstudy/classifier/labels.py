"""The classes of given labels, and labels typed on the command line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.spelling import Labels, spelt_as
from quickstudy.errors import InputError


def classes_and_targets(labels: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """The sorted classes ``[K]``, and the number ``[N]`` of each label's class.

    Raises:
        ValueError: when there is one class only.
    """
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        only = classes.tolist()
        raise InputError(
            f"There is only one class, {only[0]!r}: telling classes apart takes examples of two "
            "at least."
        )
    return classes, targets.reshape(-1)


def as_typed(label: str, classes: Labels) -> str | int:
    """Converts a typed label to the type of the classes (ValueError if that is impossible)."""
    if not label.strip():
        raise InputError("The name of the class is empty; give it one.")
    if isinstance(classes[0], str):
        spelt: str = spelt_as(np.array([label]), classes).tolist()[0]
        return spelt
    if classes.dtype.kind in "iu":
        try:
            return int(label)
        except ValueError as error:
            raise InputError(
                f"The classes are whole numbers such as {classes[0]}; {label!r} is none."
            ) from error
    raise InputError(f"Classes like {classes[0]!r} can be added to from Python only.")
