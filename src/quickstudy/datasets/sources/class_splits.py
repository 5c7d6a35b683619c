"""``class_splits.json``: published class splits, in a file beside the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from quickstudy.datasets.decoded.decoding import ClassSplits
from quickstudy.errors import InputError

CLASS_SPLITS_FILE = "class_splits.json"

LARGEST_BYTES = 256 * 2**20
"""Of the file; enough for the names of millions of classes."""


def read_class_splits(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The class splits in a folder's ``class_splits.json``; none if there is no such file.

    Raises:
        ValueError: the file is not ``{name: {split: [class names]}}``, or a class is in two splits
            of one name.
    """
    path = folder / CLASS_SPLITS_FILE
    if not path.is_file():
        return {}
    expected = 'It should map names to splits to class names: {"mine": {"train": ["cat"]}}.'
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB. {expected}")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}. {expected}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}. {expected}")
    for called, splits in found.items():
        if not isinstance(splits, dict) or not splits:
            raise InputError(
                f"The class splits {called!r} in {path} are {str(splits)[:60]!r}. {expected}"
            )
        split_of: dict[str, str] = {}
        for split, names in splits.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError(
                    f"Split {split!r} of {called!r} in {path} is not a list of class names. "
                    f"{expected}"
                )
            if not names:
                raise InputError(f"Split {split!r} of {called!r} in {path} has no classes.")
            for name in names:
                if name in split_of:
                    both = f"in {split_of[name]!r} and in {split!r}"
                    raise InputError(
                        f"Class {name!r} is named twice by {called!r} in {path}: {both}. "
                        "A class belongs to one split."
                    )
                split_of[name] = split
    return found


def check_class_splits(
    folder: Path, class_splits: ClassSplits, class_names: Sequence[str], other_columns: bool
) -> None:
    """Refuses class splits that name classes which the data do not have (ValueError).

    Args:
        folder: the folder of ``class_splits.json``.
        class_splits: the content of that file.
        class_names: the names of all classes of the data.
        other_columns: whether the data have other columns than the classes. An entry that names no
            class at all then passes, because it can divide such a column, for example speakers.
    """
    known = set(class_names)
    for called, splits in class_splits.items():
        named = [name for names in splits.values() for name in names]
        unknown = [name for name in named if name not in known]
        if unknown and not (other_columns and len(unknown) == len(named)):
            raise InputError(
                f"{called!r} in {folder / CLASS_SPLITS_FILE} names class {unknown[0]!r} "
                f"({len(unknown)} such), which the data do not have; they have classes like "
                f"{class_names[0]!r}."
            )


def present_class_splits(
    class_splits: ClassSplits, class_names: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Class splits without classes that the data lack, and without splits that become empty."""
    known = set(class_names)
    found: dict[str, dict[str, list[str]]] = {}
    for called, splits in class_splits.items():
        left = {each: [name for name in names if name in known] for each, names in splits.items()}
        if any(left.values()):
            found[called] = {each: names for each, names in left.items() if names}
    return found
