"""``class_splits.json``: published divisions of the classes, beside the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from quickstudy.datasets.decoded.decoding import Splits
from quickstudy.errors import InputError

CLASS_SPLITS_FILE = "class_splits.json"

LARGEST_BYTES = 256 * 2**20
"""Of the file; enough for the names of millions of classes."""


def read_class_splits(folder: Path) -> dict[str, dict[str, list[str]]]:
    """The divisions of the classes in a folder's ``class_splits.json``; none where it is missing.

    Raises:
        ValueError: the file is not ``{split: {part: [class names]}}``, or a class is in two parts
            of a split.
    """
    path = folder / CLASS_SPLITS_FILE
    if not path.is_file():
        return {}
    expected = 'It should map split names to parts to class names: {"mine": {"train": ["cat"]}}.'
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path} is larger than {LARGEST_BYTES >> 20} MiB. {expected}")
    try:
        splits = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}. {expected}") from error
    if not isinstance(splits, dict):
        raise InputError(f"{path} holds a {type(splits).__name__}. {expected}")
    for split, parts in splits.items():
        if not isinstance(parts, dict) or not parts:
            raise InputError(f"The split {split!r} in {path} is {str(parts)[:60]!r}. {expected}")
        part_of: dict[str, str] = {}
        for part, names in parts.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError(
                    f"Part {part!r} of the split {split!r} in {path} is not a list of class names. "
                    f"{expected}"
                )
            if not names:
                raise InputError(f"Part {part!r} of the split {split!r} in {path} has no classes.")
            for name in names:
                if name in part_of:
                    both = f"in {part_of[name]!r} and in {part!r}"
                    raise InputError(
                        f"Class {name!r} of the split {split!r} in {path} is named twice: {both}. "
                        "A class belongs to one part."
                    )
                part_of[name] = part
    return splits


def check_class_splits(
    folder: Path, splits: Splits, class_names: Sequence[str], other_columns: bool
) -> None:
    """Refuses divisions that name classes which the data do not have (ValueError).

    Args:
        folder: where the divisions are written.
        splits: what is written there.
        class_names: of all the data.
        other_columns: whether the data have columns beside that of the classes. A division that
            names no class at all may divide one of those then (speakers, say), and passes.
    """
    known = set(class_names)
    for split, parts in splits.items():
        named = [name for names in parts.values() for name in names]
        unknown = [name for name in named if name not in known]
        if unknown and not (other_columns and len(unknown) == len(named)):
            raise InputError(
                f"The split {split!r} in {folder / CLASS_SPLITS_FILE} names class {unknown[0]!r} "
                f"({len(unknown)} such), which the data do not have; they have classes like "
                f"{class_names[0]!r}."
            )


def splits_of(splits: Splits, class_names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """The divisions without what the data do not have: classes, and what has none left."""
    known = set(class_names)
    found: dict[str, dict[str, list[str]]] = {}
    for split, parts in splits.items():
        left = {part: [name for name in names if name in known] for part, names in parts.items()}
        if any(left.values()):
            found[split] = {part: names for part, names in left.items() if names}
    return found
