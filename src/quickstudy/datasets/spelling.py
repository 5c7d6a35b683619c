"""Labels that look the same are one class; a warning says which spellings were merged."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[Any]

_JOINERS = "\u200c\u200d"
"""They have no width, but change words in Persian and the appearance of emoji."""


def one_spelling(labels: Labels, known: Labels | None = None) -> Labels:
    """Labels in which equal-looking ones are spelt like the first of them.

    Ignored are white space at the ends, the kind and length of white space inside, characters
    without width, and the encoding of accents. A warning names the labels that were merged, and
    those that differ only in upper and lower case, which stay separate.

    Args:
        labels: ``[N]``.
        known: labels that come before them.
    """
    if labels.dtype.kind not in "UO":
        return labels
    first, changed = _spellings(labels, known)
    if changed:
        other, spelt = next(iter(changed.items()))
        warnings.warn(
            f"Labels that look the same are treated as one class: {other!a} is the class "
            f"{spelt!a}{_and_more(len(changed) - 1)}.",
            stacklevel=6,
        )
    _warn_of_capitals(list(first.values()), set() if known is None else set(known.tolist()))
    return _respelt(labels, changed)


def spelt_as(labels: Labels, known: Labels) -> Labels:
    """Labels ``[N]``, those that look like known ones as these are spelt; without a warning."""
    if labels.dtype.kind not in "UO":
        return labels
    return _respelt(labels, _spellings(labels, known)[1])


def _spellings(labels: Labels, known: Labels | None) -> tuple[dict[str, str], dict[str, str]]:
    """The first spelling of each visible form; and for each other spelling, the first one."""
    different = list(dict.fromkeys(labels.tolist()))
    first: dict[str, str] = {}
    for label in (*([] if known is None else dict.fromkeys(known.tolist())), *different):
        first.setdefault(seen(label), label)
    spelt = {label: first[seen(label)] for label in different}
    return first, {label: other for label, other in spelt.items() if other != label}


def _respelt(labels: Labels, changed: Mapping[str, str]) -> Labels:
    if not changed:
        return labels
    respelt = [changed.get(label, label) for label in labels.tolist()]
    return np.array(respelt, dtype=object if labels.dtype.kind == "O" else None)


def _warn_of_capitals(labels: Sequence[str], earlier: set[str]) -> None:
    """Warns of words that differ only in case; single letters are often meant to."""
    first: dict[str, str] = {}
    found = []
    for label in labels:
        other = first.setdefault(_folded(label), label)
        if other != label and len(label) > 1 and not {label, other} <= earlier:
            found.append((other, label))
    if found:
        warnings.warn(
            f"The classes {found[0][0]!r} and {found[0][1]!r} differ only in upper and lower case "
            f"or in the form of their characters{_and_more(len(found) - 1)}; spell them the same "
            "way if they are one class.",
            stacklevel=7,
        )


def _and_more(count: int) -> str:
    return f" (and {count} more)" if count else ""


def seen(label: str) -> str:
    """The visible form of a label."""
    composed = unicodedata.normalize("NFC", label)
    shown = "".join(
        each
        for each in composed
        if each in _JOINERS or each.isspace() or unicodedata.category(each) not in ("Cf", "Cc")
    )
    return " ".join(shown.split())


def _folded(label: str) -> str:
    folded = unicodedata.normalize("NFKC", seen(label)).casefold()
    return "".join(each for each in folded if unicodedata.category(each) != "Cf")
