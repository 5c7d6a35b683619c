"""Labels as users give them: kept as they are, or refused, and never merged without a warning."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.datasets.spelling import Labels, one_spelling, seen
from quickstudy.errors import InputError

_NAMES = {str: "strings", bool: "booleans", int: "whole numbers", float: "floats"}

SEVERAL = (
    "Each input needs one label, [N]; {}. For several labels per input wrap the classifier: "
    "sklearn.multiclass.OneVsRestClassifier(FewShotClassifier(...)), with the rows of zeros and "
    "ones that sklearn.preprocessing.MultiLabelBinarizer makes."
)


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


def as_labels(y: Any, inputs: int | None = None) -> Labels:
    """One label for each input, ``[N]``: strings, whole numbers, booleans or whole floats.

    Members of string or integer enumerations become their values. Columns ``[N, 1]`` are accepted
    with scikit-learn's warning.

    Args:
        y: the labels in a list, an array, a tensor or a column of a table.
        inputs: number of inputs N, if known.

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
    """Flattens rows ``[N, 1]``, with scikit-learn's warning; other shapes are refused."""
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
    if not seen(label):
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
