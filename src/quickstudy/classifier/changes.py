"""Fewer examples, or others' labels: a model as if it had been learned so from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from quickstudy.classifier.model import Model
from quickstudy.datasets.labels import as_labels, check_same_type, joined
from quickstudy.datasets.spelling import spelt_as
from quickstudy.errors import InputError
from quickstudy.messages import did_you_mean


def removed(model: Model, numbers: Sequence[int]) -> Model:
    """The model without some of its examples: what learning from the others anew would give.

    Args:
        model: stays as it is.
        numbers: numbers of the examples, from 0 in the order in which they were given.

    Raises:
        InputError: when there is no such example, or fewer than two classes would be left.
    """
    numbers = checked_numbers(model, numbers)
    left = np.setdiff1d(np.arange(len(model.support)), numbers)
    _check_classes(model.support.labels[left], "Without these examples")
    return model.with_support(model.support.rows(left.tolist()))


def relabelled(model: Model, numbers: Sequence[int], label: Any) -> Model:
    """The model with some of its examples in another class, which may be a new one.

    Args:
        model: stays as it is.
        numbers: numbers of the examples, from 0 in the order in which they were given.
        label: label of their class from now on.

    Raises:
        InputError: when there is no such example, the label is of another type than the others, or
            fewer than two classes would be left.
    """
    numbers = checked_numbers(model, numbers)
    given = as_labels([label])
    check_same_type(model.classes, given)
    # Joined first, as an array of short strings would cut longer ones.
    labels = joined(model.support.labels, spelt_as(given, model.classes))
    labels, last = labels[:-1].copy(), labels[-1]
    labels[numbers] = last
    _check_classes(labels, "With these labels")
    support = model.support.rows(range(len(labels)))
    support.labels = labels
    return model.with_support(support)


def numbers_of(model: Model, label: Any) -> list[int]:
    """The numbers of a class's examples.

    Raises:
        InputError: when there is no such class.
    """
    if label not in model.sizes:
        near = did_you_mean(str(label), map(str, model.classes.tolist()))
        raise InputError(f"There is no class {label!r} in the classifier.{near}")
    return [number for number, each in enumerate(model.support.labels.tolist()) if each == label]


def chosen(model: Model, label: Any, examples: Sequence[int] | None) -> Sequence[int]:
    """The numbers of the selected examples: all of one class, or single ones.

    Raises:
        InputError: when both or neither were named, or there is no such class.
    """
    if (label is None) == (examples is None):
        raise InputError("Name either a class, label=..., or the numbers of examples, examples=...")
    return numbers_of(model, label) if examples is None else examples


def checked_numbers(model: Model, numbers: Sequence[int]) -> list[int]:
    """Numbers of examples, ascending and distinct (InputError if there is no such example)."""
    count = len(model.support)
    for number in numbers:
        if not 0 <= number < count:
            raise InputError(
                f"There is no example {number}; the {count} examples have the numbers 0 to "
                f"{count - 1}. `quickstudy inspect FILE --examples` lists them."
            )
    if not len(numbers):
        raise InputError("No examples were named; give the number of one at least.")
    return sorted(set(map(int, numbers)))


def _check_classes(labels: Any, when: str) -> None:
    left = sorted(set(labels.tolist()))
    if len(left) < 2:
        only = f"only the class {left[0]!r}" if left else "no class"
        raise InputError(
            f"{when} {only} would be left; a classifier needs at least two. Add examples of "
            "another class first."
        )
