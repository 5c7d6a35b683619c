"""Splits of data, such as train and test: their names, and how they are chosen and pooled.

Folders, tables and repositories all use this module, so that a name means the same in each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from quickstudy.datasets.decoded.decoding import ClassSplits
from quickstudy.errors import InputError

SPLITS = ("train", "validation", "test")
"""The splits, in the order in which they are listed."""

_NAMES: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "metatrain"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "validation"),
    **dict.fromkeys(("valset", "devset", "metaval"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "testset", "metatest"), "test"),
    **dict.fromkeys(("eval", "evaluation", "evalset", "holdout"), "test"),
}
"""Synonyms as on the Hugging Face hub: dev is validation, eval is test."""

_FILLERS = frozenset(
    (
        *("set", "split", "part", "meta", "data", "dataset", "files", "examples", "samples"),
        *("image", "images", "img", "imgs", "pictures", "photos", "audio", "sounds", "clips"),
        *("wav", "wavs", "text", "texts"),
    )
)
"""Additions to the names of splits: ``train_images``, ``test-set``, ``val2017``."""

SPLIT_COLUMNS = ("split", "data_split", "dataset_split", "subset", "partition", "set", "fold")
"""Usual names of the column with the split of each row."""


def split_of(name: str) -> str | None:
    """The split that a folder's name or a table's value stands for; None for any other name.

    Case, digits at the end and words such as "images" or "set" are ignored.
    """
    words = [word for word in _words(name) if word not in _FILLERS]
    return _NAMES.get(words[0]) if len(words) == 1 else None


def split_of_table(name: str) -> str | None:
    """The split that a table's file name stands for: ``train``, ``reviews_test``.

    As on the hub, these words are found anywhere in the name.
    """
    found = {_NAMES[word] for word in _words(name) if word in _NAMES}
    return found.pop() if len(found) == 1 else None


def _words(name: str) -> list[str]:
    plain = re.sub(r"[\W_]+", " ", name.casefold())
    plain = re.sub(r"\b(?:hold|held) ?out\b", "holdout", plain)
    return [word for word in (each.rstrip("0123456789") for each in plain.split()) if word]


def in_order(splits: Collection[str]) -> list[str]:
    """Names of splits: training first, then validation, then test, then all others."""

    def place(name: str) -> int:
        split = _meaning(name)
        return SPLITS.index(split) if split else len(SPLITS)

    return sorted(splits, key=lambda name: (place(name), name))


def chosen_splits(wanted: str, splits: Sequence[str], data: str) -> list[str]:
    """The splits that ``split`` selects, by their own names or "train", "validation", "test".

    Args:
        wanted: one name, or several joined by "+".
        splits: all splits by their own names.
        data: what messages call the data.

    Raises:
        ValueError: there is no such split.
    """
    chosen: list[str] = []
    for each in wanted.split("+"):
        same = [name for name in splits if name == each]
        meant = [name for name in splits if each in SPLITS and each == _meaning(name)]
        if not same and not meant:
            known = (
                f"it has {', '.join(splits)}"
                if splits
                else ("none of its folders is a split of the data")
            )
            raise InputError(f"{data} has no split {each!r}; {known}.")
        chosen += [name for name in same or meant if name not in chosen]
    return chosen


def _meaning(name: str) -> str | None:
    return split_of(name) or split_of_table(name)


def known_splits(names: Sequence[str]) -> list[str]:
    """The names of tables that stand for splits, in order; none if all stand for the same split."""
    known = in_order([name for name in names if _meaning(name)])
    return known if len({_meaning(name) for name in known}) > 1 else []


def training_splits(splits: Sequence[str]) -> list[str]:
    """The splits to learn from, leaving out those for testing; all splits if none is for training.

    Args:
        splits: all splits by their own names.
    """
    return [name for name in splits if _meaning(name) == "train"] or [*splits]


def class_splits_from(name: str, classes: Mapping[str, Collection[str]]) -> ClassSplits:
    """The class splits that the splits form if they divide the classes, as in few-shot data.

    Args:
        name: name of the class splits.
        classes: the classes of each split, by the splits' own names.

    Returns:
        ``{name: {split: class names}}``; empty if a class is in two splits, or there is only one
        split. Upper and lower case are not distinguished here: "Cat" in train and "cat" in test are
        hardly two classes.
    """
    members: dict[str, set[str]] = {}
    for split, names in classes.items():
        members.setdefault(_meaning(split) or split, set()).update(names)
    folded = [{name.casefold() for name in names} for names in members.values()]
    if len(members) < 2 or sum(map(len, folded)) != len(set().union(*folded)):
        return {}
    return {name: {split: sorted(members[split]) for split in in_order(members)}}


def pooling_note(data: str, classes: Mapping[str, Collection[str]]) -> str:
    """The warning that examples of several splits are pooled; empty if none are.

    Args:
        data: what messages call it.
        classes: the classes of each split, by the splits' own names.
    """
    counted: dict[str, int] = {}
    for names in classes.values():
        for name in set(names):
            counted[name] = counted.get(name, 0) + 1
    shared = sorted(name for name, count in counted.items() if count > 1)
    if not shared:
        return ""
    splits = in_order(classes)
    which = "all classes" if len(shared) == len(counted) else f"the classes {_listed(shared)}"
    return (
        f"The examples of {' and '.join(splits)} in {data} are pooled, because {which} are in more "
        f"than one of them. To read only one split, use split={splits[0]!r} (on the command line "
        f"--data-split {splits[0]})."
    )


def _listed(names: Sequence[str]) -> str:
    named = ", ".join(map(repr, names[:3]))
    return f"{named} and {len(names) - 3} more" if len(names) > 3 else named


def learning_note(data: str, used: Sequence[str], left: Sequence[str]) -> str:
    """The warning that a classifier learns from some splits of the data only.

    Args:
        data: what messages call it.
        used: the splits to learn from.
        left: the other splits, not empty.
    """
    return (
        f"Only the examples of {' and '.join(used)} in {data} are used for learning; those of "
        f"{' and '.join(left)} are left alone, so that they can test the result. To learn from all "
        f"of them, give --data-split {'+'.join([*used, *left])}."
    )
