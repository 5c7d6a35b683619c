"""Which sub-folders are classes, and which are splits such as train and test.

Only paths are inspected. The positions of the files decide what a folder is: a folder with the name
of a split is a split if it contains class folders. The rules are the same for images, texts and
sounds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from quickstudy.datasets.sources.splits import in_order, split_of
from quickstudy.errors import InputError

Place = tuple[str, str]
"""The class of a folder, and the name of its split; "" if there are no splits."""

_UNLABELLED = frozenset({"unlabelled", "unlabeled", "unsup", "unsupervised"})
_NO_CLASS_ALONE = frozenset(
    ("unknown", "unsorted", "images", "image", "img", "imgs", "all", "data", "files")
)
"""Names of a split's only folder that holds files without a class, such as ``test/all`` for Keras.
"""


@dataclass(frozen=True)
class Layout:
    """The roles of the folders of a data set.

    Args:
        place: returns the class and the split of a folder, given its path; None if it is in no
            class.
        places: the class and the split of each folder with files that is in a class.
        splits: the splits, in order; empty if the data are not divided.
        notes: warnings, in sentences.
    """

    place: Callable[[str], Place | None]
    places: Mapping[str, Place]
    splits: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def class_names(self) -> set[str]:
        """The classes of all splits."""
        return {name for name, _ in self.places.values()}

    @property
    def is_plain(self) -> bool:
        """Whether every folder with files is a class named by the folder's path."""
        return all(place == (folder, "") for folder, place in self.places.items())


@dataclass(frozen=True)
class _Rule:
    """How a path divides into split and class.

    Args:
        tops: top-level folders that are splits; empty if the splits are at another level.
        level: depth of the splits inside the classes; 0 if there are none.
        shared: folders, below the splits, that hold all classes of all splits.
        unlabelled: splits at the top of which no folder is a class.
    """

    tops: frozenset[str] = frozenset()
    level: int = 0
    shared: tuple[str, ...] = ()
    unlabelled: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, folder: str) -> Place | None:
        names = folder.split("/")
        split = ""
        if self.tops:
            split = names.pop(0)
            if split not in self.tops or split in self.unlabelled:
                return None
            for each in self.shared:
                if names[:1] == [each] or (names and split_of(each) and split_of(names[0])):
                    names.pop(0)
        elif self.level and len(names) > self.level:
            split = names.pop(self.level)
        if not names or names[-1].casefold() in _UNLABELLED:
            return None
        return "/".join(names), split


def lay_out(folders: Collection[str], data: str, nouns: str) -> Layout:
    """Finds out which folders with files are classes and which are splits.

    - ``train/cat/...``: top-level folders with names of splits that hold class folders are splits.
    Anything beside them is in no class: loose files, splits without class folders, other folders. -
    ``cat/train/...``: folders inside the classes are splits if all of them have names of splits. -
    Otherwise every folder with files is a class, named by its path.

    Args:
        folders: the paths, with ``/``, of all folders below the top one that hold files to read.
        data: the name of the data in messages.
        nouns: the word for the files in messages.

    Raises:
        ValueError: there are splits but no classes in them, or it is not clear which folders are
            splits and which are classes.
    """
    rule = _rule([*folders], data, nouns)
    found = {folder: own for folder in sorted(folders) if (own := rule(folder))}
    merged, notes = same_names({name for name, _ in found.values()}, data)

    def place(folder: str) -> Place | None:
        own = rule(folder)
        return own and (merged.get(own[0], own[0]), own[1])

    places = {folder: (merged.get(name, name), split) for folder, (name, split) in found.items()}
    splits = in_order({split for _, split in places.values() if split})
    if rule.level and all(_is_no_class(name.casefold()) for name, _ in places.values()):
        raise _no_classes(splits, data, nouns)
    if called_so := sorted(name for name in places if not rule.tops and split_of(name)):
        listed = " and ".join(map(repr, called_so))
        notes.append(
            f"The folder {listed} in {data} is read as a class, because its {nouns} lie directly "
            "in it, as in the class folders beside it. If it is a split of the data, move it "
            "elsewhere; if it is a class, nothing is wrong."
        )
    if not splits and (repeated := _repeated(places)):
        first, second, name = repeated
        notes.append(
            f"The folders {first!r} and {second!r} in {data} hold folders of the same names, which "
            f"are read as different classes ({first}/{name} and {second}/{name}, for one). If they "
            "are splits of the data, read one of them, or call them train and test; if they are "
            "groups of classes, nothing is wrong."
        )
    return Layout(place, places, splits, notes)


def _repeated(folders: Collection[str]) -> tuple[str, str, str] | None:
    """Two top folders where all hold the very same folders, and one of these; else None."""
    below: dict[str, set[str]] = {}
    for folder in folders:
        top, _, rest = folder.partition("/")
        below.setdefault(top, set()).add(rest)
    tops = sorted(below)
    same = len(tops) > 1 and all(below[top] == below[tops[0]] for top in tops)
    name = min(below[tops[0]], default="") if same else ""
    return (tops[0], tops[1], name) if name else None


def _rule(folders: Sequence[str], data: str, nouns: str) -> _Rule:
    below: dict[str, list[str]] = {}
    for folder in folders:
        top, _, rest = folder.partition("/")
        below.setdefault(top, [])
        if rest:
            below[top].append(rest)
    named = {top for top in below if split_of(top)}
    splits = frozenset(top for top in named if below[top])
    if named and not splits and len(named) == len(below):
        raise _no_classes(sorted(named), data, nouns)
    if not splits:
        return _Rule(level=_level_of_splits(folders))
    others = {rest for top in below.keys() - named for rest in below[top]}
    if others and len(splits) == 1:
        (split,) = splits
        if not others & {*below[split]}:
            other = next(top for top in sorted(below.keys() - named) if below[top])
            raise InputError(
                f"In {data} the folder {split!r} has the name of a split of the data, but "
                f"{other!r} beside it also holds folders, with other names. If they are splits, "
                f"give the path of the one to read ({str(PurePosixPath(data) / split)!r}); if they "
                f"are groups of classes, rename {split!r}."
            )
    shared = _shared({split: below[split] for split in splits})
    rule = _Rule(splits, 0, shared)
    unlabelled = frozenset(split for split in splits if _is_unlabelled(rule, split, below[split]))
    if unlabelled == splits:
        raise _no_classes(sorted(named), data, nouns)
    return _Rule(splits, 0, shared, unlabelled)


def _no_classes(splits: Sequence[str], data: str, nouns: str) -> InputError:
    return InputError(
        f"{data} has the splits {', '.join(splits)}, with {nouns} in them but no class folders. "
        f"Put the {nouns} of each class in a sub-folder named after the class, as in "
        f"{splits[0]}/cat; if {' and '.join(map(repr, splits))} are themselves the classes, put "
        f"them together in a folder {'train'!r}."
    )


def _shared(below: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Folders below the splits that are not classes themselves: ``images`` in train/images/cat."""
    shared: list[str] = []
    rests = {split: [rest.split("/") for rest in some] for split, some in below.items()}
    while True:
        # A folder with files is a class. training_set/training_set/cat repeats a split's name.
        if any(len(names) < 2 for some in rests.values() for names in some):
            return tuple(shared)
        firsts = {names[0] for some in rests.values() for names in some}
        repeated = all(
            split_of(names[0]) == split_of(split) for split, some in rests.items() for names in some
        )
        if len(firsts) > 1 and not repeated:
            return tuple(shared)
        shared.append(min(firsts))
        rests = {split: [names[1:] for names in some] for split, some in rests.items()}


def _is_unlabelled(rule: _Rule, split: str, rests: Sequence[str]) -> bool:
    """Whether a split's only folder has a name for files without a class."""
    places = [rule(f"{split}/{rest}") for rest in rests]
    names = {place[0].casefold() for place in places if place}
    return not names or (len(names) == 1 and _is_no_class(next(iter(names))))


def _is_no_class(name: str) -> bool:
    return name in _NO_CLASS_ALONE or split_of(name) is not None


def _level_of_splits(folders: Sequence[str]) -> int:
    """The depth at which all folders are splits, as in ``cat/train``; 0 if there is none."""
    paths = [folder.split("/") for folder in folders]
    for level in range(1, max(map(len, paths), default=0)):
        deep = [names for names in paths if len(names) > level]
        splits = {names[level] for names in deep}
        parents = {tuple(names[:level]) for names in deep}
        if all(map(split_of, splits)) and (len(splits) > 1 or len(parents) > 1):
            return level
    return 0


def same_names(names: Collection[str], data: str) -> tuple[dict[str, str], list[str]]:
    """Class names that are spellings of the same name, and notes on them and on similar names.

    Letters with accents have two encodings, and file systems differ in which one they write; this
    and trailing spaces cannot be seen. Upper and lower case can mean different classes ("a" and
    "A").

    Args:
        names: names of the classes.
        data: what messages call the data.

    Returns:
        The name to use for each name with several spellings, and the notes.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(plain_name(name), []).append(name)
    merged = {name: plain for plain, same in alike.items() if len(same) > 1 for name in same}
    notes = []
    if merged:
        one = next(iter(merged.values()))
        notes.append(
            f"Some class names in {data} are spellings of the same name, such as {one!r} (trailing "
            f"spaces, or different encodings of accents), and are read as one class ({len(merged)} "
            "spellings in all)."
        )
    folded: dict[str, list[str]] = {}
    for name in sorted({merged.get(name, name) for name in names}):
        if len(name.rpartition("/")[2]) > 1:  # "a" and "A" are two letters
            folded.setdefault(name.casefold(), []).append(name)
    similar = [same for same in folded.values() if len(same) > 1]
    if similar:
        notes.append(
            f"The classes {' and '.join(map(repr, similar[0]))} in {data} differ only in upper and "
            f"lower case and are read as {len(similar[0])} classes; rename them if they are one."
        )
    return merged, notes


def plain_name(name: str) -> str:
    """A class name as it looks: accents composed (NFC), no spaces around any folder's name."""
    return "/".join(part.strip() for part in unicodedata.normalize("NFC", name).split("/"))
