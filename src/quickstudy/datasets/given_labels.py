"""Labels as users give them: kept as they are, or refused, and never merged without a warning."""

from __future__ import annotations

import math
import numbers
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.errors import InputError

Labels = NDArray[Any]

_NAMES = {str: "strings", bool: "booleans", int: "whole numbers", float: "floats"}
_JOINERS = "\u200c\u200d"
"""They have no width, but change words in Persian and the appearance of emoji."""

SEVERAL = (
    "Each input needs one label, [N]; {}. For several labels per input wrap the classifier: "
    "sklearn.multiclass.OneVsRestClassifier(FewShotClassifier(...)), with the rows of zeros and "
    "ones that sklearn.preprocessing.MultiLabelBinarizer makes."
)


def as_labels(y: Any, inputs: int | None = None) -> Labels:
    """One label for each input, ``[N]``: strings, whole numbers, booleans or whole floats.

    Members of string or integer enumerations become their values. Columns ``[N, 1]`` are accepted
    with scikit-learn's warning.

    Args:
        y: the labels in a list, an array, a tensor or a column of a table.
        inputs: N, where it is known.

    Raises:
        ValueError: the labels are more or fewer than the inputs, missing, several for one input, of
            several types, or of a type that a classifier's file cannot hold.
    """
    plain, array = _plain(y)
    if inputs is not None and len(plain) != inputs:
        raise InputError(
            f"There are {inputs} inputs and {len(plain)} labels; each input needs one label."
        )
    _check_one_type({kind: each for each in plain for kind in [type(each)]})
    if array is not None:
        return array
    return _array(plain)


def joined(old: Labels, new: Labels) -> Labels:
    """Old and new labels in the old ones' type; new spellings of old labels become the old ones.

    Raises:
        ValueError: when they have two types, such as whole numbers and booleans.
    """
    check_same_type(old, new)
    if old.dtype.kind in "iu" and old.dtype.kind != new.dtype.kind:
        return _array(old.tolist() + new.tolist())  # numpy's common type would be floats
    return np.concatenate([old, new])


def check_same_type(old: Labels, new: Labels) -> None:
    """Refuses new labels of another type than the old ones (ValueError)."""
    if not len(old) or not len(new):
        return
    before, after = old[:1].tolist()[0], new[:1].tolist()[0]
    if type(before) is not type(after):
        raise InputError(
            f"The classes so far are {_NAMES[type(before)]} such as {before!r}, but the labels "
            f"given now are {_NAMES[type(after)]} such as {after!r}; use one type for all labels."
        )


def one_spelling(labels: Labels, known: Labels | None = None) -> Labels:
    """Labels in which those that look the same are spelled the same, like the first of them.

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
    """The first spelling of what is seen; and of each label that has another one, that spelling."""
    different = list(dict.fromkeys(labels.tolist()))
    first: dict[str, str] = {}
    for label in (*([] if known is None else dict.fromkeys(known.tolist())), *different):
        first.setdefault(_seen(label), label)
    spelt = {label: first[_seen(label)] for label in different}
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


def _seen(label: str) -> str:
    """What a reader sees of a label."""
    composed = unicodedata.normalize("NFC", label)
    shown = "".join(
        each
        for each in composed
        if each in _JOINERS or each.isspace() or unicodedata.category(each) not in ("Cf", "Cc")
    )
    return " ".join(shown.split())


def _folded(label: str) -> str:
    folded = unicodedata.normalize("NFKC", _seen(label)).casefold()
    return "".join(each for each in folded if unicodedata.category(each) != "Cf")


def _plain(y: Any) -> tuple[list[Any], Labels | None]:
    """The labels as Python strings, booleans and numbers; an array if the labels are an array.

    An array of numbers or of strings keeps its type; of anything else it is made later.
    """
    if y is None:
        raise InputError("requires y to be passed, but the target y is None; labels are needed")
    if isinstance(y, Iterator):
        y = list(y)
    if hasattr(y, "tocsr"):
        raise InputError(SEVERAL.format(f"these are a sparse matrix of shape {y.shape}"))
    if isinstance(y, set | frozenset | Mapping):
        raise InputError(
            f"The labels are a {type(y).__name__}; give a list, in the order of the inputs."
        )
    listed = hasattr(y, "__array__") or _has_length(y)
    if isinstance(y, str | bytes) or not listed:
        raise InputError(
            f"The labels are a single {type(y).__name__}; give a list with one label per input, in "
            "the order of the inputs."
        )
    if isinstance(y, Tensor):
        y = y.detach().cpu()
        y = (y.float() if y.is_floating_point() else y).numpy()
    if not hasattr(y, "__array__"):
        values = list(y)
        if any(isinstance(each, list | tuple | np.ndarray | Tensor) for each in values):
            values = _of_rows(values)
        return [_one(each, number) for number, each in enumerate(values)], None
    if isinstance(y, np.ma.MaskedArray) and len(hidden := np.ma.getmaskarray(y).nonzero()[0]):
        raise InputError(f"Label {hidden[0]} is missing (masked); each input needs one.")
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        from sklearn.utils.validation import column_or_1d

        array = column_or_1d(array, warn=True)
    if array.ndim != 1:
        raise InputError(_shape_refused(array.shape))
    if array.dtype.kind in "iub":
        return array.tolist(), array
    if array.dtype.kind in "fU":
        return [_one(each, number) for number, each in enumerate(array.tolist())], array
    plain = [_one(each, number) for number, each in enumerate(array)]
    words = array.dtype.kind == "O" and all(isinstance(each, str) for each in plain)
    return plain, np.array(plain, dtype=object) if words else None


def _has_length(y: Any) -> bool:
    try:
        len(y)
    except TypeError:
        return False
    return True


def _of_rows(values: list[Any]) -> list[Any]:
    """What is in rows ``[N, 1]``, with scikit-learn's warning; others are refused."""
    sizes = {len(each) if np.ndim(each) else -1 for each in values if _is_row(each)}
    if not all(map(_is_row, values)) or sizes == {-1}:
        return [each.item() if np.shape(each) == () and _is_row(each) else each for each in values]
    if sizes != {1}:
        shape = (len(values), *sizes) if len(sizes) == 1 else None
        raise InputError(_shape_refused(shape))
    from sklearn.exceptions import DataConversionWarning

    warnings.warn(
        "A column-vector y was passed when a 1d array was expected: labels [N, 1] are taken as "
        "[N].",
        DataConversionWarning,
        stacklevel=5,
    )
    return [each[0] for each in values]


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray | Tensor)


def _shape_refused(shape: Sequence[int] | None) -> str:
    if shape is None:
        return SEVERAL.format("these are rows of different lengths")
    if not shape:
        return "The labels are a single value; give a list with one label per input."
    return SEVERAL.format(
        f"these have the shape {list(shape)}. To turn one-hot rows into labels, use y.argmax(1)"
    )


def _one(label: Any, number: int) -> Any:
    """A label as a string, boolean, whole number or float of Python's own.

    Raises:
        ValueError: when it is missing or of another type.
    """
    if type(label) is str:
        return _text(label, number)
    if isinstance(label, np.ndarray | Tensor) and label.ndim == 0:
        label = label.item()
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        raise InputError(f"Label {number} is missing (None or NaN); each input needs one.")
    if isinstance(label, str):
        return _text(str.__str__(label), number)  # not the name of an enumeration's member
    if isinstance(label, bool | np.bool_):
        return bool(label)
    if isinstance(label, int | np.integer) and not isinstance(label, np.timedelta64):
        return _whole(int(label), number)
    if isinstance(label, float | np.floating):
        return _float(float(label), number)
    raise InputError(_type_refused(label, number))


def _text(label: str, number: int) -> str:
    if not _seen(label):
        raise InputError(
            f"Label {number} is missing: the text {label!r} is blank; each input needs a label."
        )
    try:
        label.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"Label {number} holds half of a character, {label!r}, which no file can store; type "
            "it again."
        ) from None
    return label.rstrip("\0")  # numpy drops these


def _whole(label: int, number: int) -> int:
    if not -(2**63) <= label < 2**64:
        raise InputError(
            f"Label {number} is {label}, but whole numbers as labels must fit into 64 bits. Give "
            "it as a string."
        )
    return label


def _float(label: float, number: int) -> float:
    if math.isnan(label):
        raise InputError(
            f"Label {number} is missing (None or NaN): Input y contains NaN; each input needs one."
        )
    if math.isinf(label):
        raise InputError(f"Input y contains infinity: label {number}. Give each input a label.")
    if not label.is_integer():
        raise InputError(
            f"Unknown label type: continuous. Label {number} is {label}, a measured number and not "
            "the name of a class. Maybe you are trying to fit a classifier, which expects discrete "
            "classes, on a regression target with continuous values; give strings or whole numbers."
        )
    return label


def _type_refused(label: Any, number: int) -> str:
    name = type(label).__name__
    if isinstance(label, list | tuple | set | frozenset | dict | np.ndarray | Tensor):
        return SEVERAL.format(f"label {number} is a {name}")
    if isinstance(label, bytes):
        instead = f"decode it: {label!r}.decode()"
    elif isinstance(label, Enum):
        instead = f"give its name, {label.name!r}, or its value"
    elif isinstance(label, numbers.Number):
        instead = "give a whole number or a string"
    else:
        instead = f"give a string, such as {str(label)[:60]!r}"
    return (
        f"Label {number} is a {name} ({str(label)[:60]}), which cannot be a label: labels are "
        f"strings, whole numbers or booleans, which files can store. Please {instead}."
    )


def _check_one_type(examples: dict[type, Any]) -> None:
    """Refuses labels of several types, because Python considers 1, 1.0 and True equal."""
    if len(examples) < 2:
        return
    (one, first), (other, second) = list(examples.items())[:2]
    raise InputError(
        f"Some labels are {_NAMES[one]} such as {first!r} and some are {_NAMES[other]} such as "
        f"{second!r}; use one type for all labels."
    )


def _array(plain: Iterable[Any]) -> Labels:
    values = list(plain)
    if values and type(values[0]) is int:
        if max(values) < 2**63:
            return np.array(values, dtype=np.int64)
        if min(values) < 0:
            raise InputError(
                f"The labels {min(values)} and {max(values)} do not fit into one 64-bit integer "
                "type. Give them as strings."
            )
        return np.array(values, dtype=np.uint64)
    return np.array(values)
