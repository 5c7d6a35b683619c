"""Counts as users give them: whole numbers of Python, numpy or torch, and ranges of them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from quickstudy.errors import InputError

Count = int | Sequence[int]
"""A fixed number, or an inclusive ``(low, high)`` range to draw it from."""


def as_whole(value: Any) -> int | None:
    """``value`` as an ``int`` if it is a whole number (5, ``np.int64(5)``, 5.0); else None.

    Booleans are not counts.
    """
    if type(value) is int:
        return value
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).removeprefix("torch.") == "bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        number = float(value) if not isinstance(value, str | bytes) else 0.5
    except (TypeError, ValueError, RuntimeError):
        return None
    return int(number) if number.is_integer() else None


def whole_number(value: Any, name: str, least: int = 0) -> int:
    """A count as an ``int``.

    Raises:
        ValueError: when it is not a whole number or is less than ``least``; the message calls it
            ``name``.
    """
    number = as_whole(value)
    if number is None or number < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
    return number


def whole_range(value: Any, name: str, least: int = 0) -> tuple[int, int]:
    """The lower and upper end of a count or range; equal if it is a single number.

    Raises:
        ValueError: when it is neither a whole number nor a range, or is too low; the message calls
            it ``name``.
    """
    number = as_whole(value)
    given = [value, value] if number is not None else value
    if hasattr(given, "__iter__") and not isinstance(given, str | bytes | dict):
        ends = [each for each in map(as_whole, given) if each is not None]
        if len(ends) == len(given) == 2 and least <= ends[0] <= ends[1]:
            return ends[0], ends[1]
    raise InputError(
        f"{name} is {value!r}; it must be a whole number of at least {least}, or a range "
        "(low, high) with low <= high."
    )


def plain_count(value: Any, name: str, least: int = 0) -> Count:
    """A count as files store it: an ``int``, or a list of the two ends of a range."""
    low, high = whole_range(value, name, least)
    return low if as_whole(value) is not None else [low, high]
