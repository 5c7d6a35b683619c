"""Tables of images and labels, as the ``datasets`` library loads them, to raw examples by class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.datasets.decoding import RawExamples
from quickstudy.datasets.folder import read_class_splits

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "pixels")
LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "category",
    "species",
    "target",
    "fine_label",
)
"""Usual names of columns, the most usual first; case does not matter."""

_READ_AT_ONCE = 1024


@dataclass(frozen=True)
class Columns:
    """Where a repository keeps its images and labels; what is None is found out.

    Args:
        image: the column of images.
        label: the column of class labels.
        configuration: which of a repository's several data sets.
    """

    image: str | None = None
    label: str | None = None
    configuration: str | None = None


def raw_examples(loaded: Any, columns: Columns, folder: Path, name: str) -> RawExamples:
    """Pools a ``DatasetDict``'s splits and puts the examples class after class."""
    import datasets

    first = next(iter(loaded.values()))
    image = columns.image or _image_column(first.features, name)
    label = columns.label or _label_column(loaded, image, folder, name)
    for column in (image, label):
        if column not in first.features:
            raise ValueError(f"{name} has no column {column!r}. {_described(first.features)}")
    lacking = [split for split, data in loaded.items() if not {image, label} <= {*data.features}]
    if lacking:
        warnings.warn(
            f"The data split {lacking[0]!r} of {name} lacks the column {image!r} or {label!r} and "
            "is left out.",
            stacklevel=2,
        )
    parts = [data.select_columns([image, label]) for s, data in loaded.items() if s not in lacking]
    try:
        undecoded = [part.cast_column(image, datasets.Image(decode=False)) for part in parts]
        pooled = datasets.concatenate_datasets(undecoded)
    except (TypeError, ValueError, NotImplementedError) as error:  # pyarrow raises all three
        raise ValueError(
            f"The column {image!r} of {name} cannot be read as images: {reason(error)} "
            f"{_described(first.features)}"
        ) from error
    order, names, sizes = _grouped(pooled, label, name)
    return RawExamples(names, sizes, _rows(pooled, image, order), {})


def _grouped(pooled: Any, label: str, name: str) -> tuple[NDArray[np.int64], list[str], list[int]]:
    """The row numbers class after class, the classes' names and their sizes."""
    column = pooled.select_columns([label]).with_format("arrow")[:][label].to_pylist()
    feature = pooled.features[label]
    names = getattr(feature, "names", None)
    # The hub's convention for a withheld label is -1.
    labelled = [i for i, v in enumerate(column) if v is not None and not (names and v < 0)]
    if not labelled:
        raise ValueError(f"No example of {name} has a label in the column {label!r}.")
    if len(labelled) < len(column):
        warnings.warn(
            f"{len(column) - len(labelled)} examples of {name} have no label in the column "
            f"{label!r} and are left out.",
            stacklevel=2,
        )
    if isinstance(column[labelled[0]], list | dict):
        raise ValueError(
            f"The column {label!r} of {name} holds several values for an example, not its class."
        )
    values, codes = np.unique(np.array([column[i] for i in labelled]), return_inverse=True)
    order = np.array(labelled)[np.argsort(codes, kind="stable")]
    class_names = [names[value] if names else str(value) for value in values.tolist()]
    return order, class_names, np.bincount(codes).tolist()


def _rows(pooled: Any, image: str, order: NDArray[np.int64]) -> Iterator[tuple[str, Any]]:
    table = pooled.with_format("arrow")
    for start in range(0, len(order), _READ_AT_ONCE):
        numbers = order[start : start + _READ_AT_ONCE]
        for number, each in zip(numbers, table[numbers][image].to_pylist(), strict=True):
            path = (each or {}).get("path") or ""
            content = (each or {}).get("bytes")
            called = f"Image {number}" + (f" ({path!r})" if path else "")
            yield called, content if content is not None else Path(path) if path else None


def _image_column(features: Any, name: str) -> str:
    import datasets

    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    found = _the_only_or_usual(images, IMAGE_COLUMNS)
    if found is None:
        problem = "several columns" if images else "no column"
        raise ValueError(
            f"{name} has {problem} of images. {_described(features)} If one of them holds the "
            "images to be used, name it with image_column."
        )
    return found


def _label_column(loaded: Any, image: str, folder: Path, name: str) -> str:
    import datasets

    first = next(iter(loaded.values()))
    others = {key: feature for key, feature in first.features.items() if key != image}
    classes = [key for key, feature in others.items() if isinstance(feature, datasets.ClassLabel)]
    found = _the_only_or_usual(classes, LABEL_COLUMNS)
    if found is None and not classes:
        found = _the_only_or_usual([], LABEL_COLUMNS, others)
    if found is None:
        # Published divisions of the classes tell which column the classes are in.
        splits = read_class_splits(folder)
        named = {c for parts in splits.values() for names in parts.values() for c in names}
        strings = [k for k in others if getattr(others[k], "dtype", None) == "string"]
        fitting = [
            key
            for key in strings
            if named and named <= {v for data in loaded.values() for v in data.unique(key)}
        ]
        found = fitting[0] if len(fitting) == 1 else None
    if found is None:
        raise ValueError(
            f"It is not clear which column of {name} says the class. {_described(first.features)} "
            "Name the right one with label_column."
        )
    return found


def _the_only_or_usual(
    candidates: Sequence[str], usual: Sequence[str], among: Any = None
) -> str | None:
    if len(candidates) == 1:
        return candidates[0]
    known = {each.lower(): each for each in (among or candidates)}
    return next((known[name] for name in usual if name in known), None)


def _described(features: Any) -> str:
    listed = []
    for key, feature in features.items():
        kind = type(feature).__name__
        listed.append(f"{key} ({feature.dtype if kind == 'Value' else kind})")
    return f"Its columns are {', '.join(listed)}."


def reason(error: BaseException) -> str:
    """The first line of the error at the bottom, as a sentence: libraries wrap what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
