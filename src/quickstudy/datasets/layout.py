"""Which sub-folders are classes, and which are parts such as train and test.

Only paths are looked at. What a folder is follows from where the files lie: a folder called like a
part is one if class folders lie in it, and every rule is the same for images, texts and sounds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from quickstudy.datasets.parts import in_order, part_of

Place = tuple[str, str]
"""The class of a folder, and its part by the part's own name; "" where there are no parts."""

_UNLABELLED = frozenset({"unlabelled", "unlabeled", "unsup", "unsupervised"})
_NO_CLASS_ALONE = frozenset(
    ("unknown", "unsorted", "images", "image", "img", "imgs", "all", "data", "files")
)
"""Names of the only folder in a part that holds what has no class, as Keras wants ``test/all``."""


@dataclass(frozen=True)
class Layout:
    """What the folders of a data set are.

    Args:
        place: the class and the part of any folder, by its path; None for one that is in no class.
        places: those of the folders with files that are in a class.
        parts: of these, in order; empty where the data are not divided.
        notes: what should be said, in sentences.
    """

    place: Callable[[str], Place | None]
    places: Mapping[str, Place]
    parts: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def class_names(self) -> set[str]:
        """The classes of all parts."""
        return {name for name, _ in self.places.values()}

    @property
    def is_plain(self) -> bool:
        """Whether every folder with files is a class that has the folder's path as its name."""
        return all(place == (folder, "") for folder, place in self.places.items())


@dataclass(frozen=True)
class _Rule:
    """How a path is taken apart.

    Args:
        tops: folders at the top that are parts; empty where parts are no top folders.
        level: of the parts inside the classes; 0 where there are none.
        shared: folders, below the parts, that hold all classes of all parts.
        unlabelled: parts at the top of which no folder is a class.
    """

    tops: frozenset[str] = frozenset()
    level: int = 0
    shared: tuple[str, ...] = ()
    unlabelled: frozenset[str] = field(default_factory=frozenset)

    def __call__(self, folder: str) -> Place | None:
        names = folder.split("/")
        part = ""
        if self.tops:
            part = names.pop(0)
            if part not in self.tops or part in self.unlabelled:
                return None
            for each in self.shared:
                if names[:1] == [each] or (names and part_of(each) and part_of(names[0])):
                    names.pop(0)
        elif self.level and len(names) > self.level:
            part = names.pop(self.level)
        if not names or names[-1].casefold() in _UNLABELLED:
            return None
        return "/".join(names), part


def lay_out(folders: Collection[str], data: str, nouns: str) -> Layout:
    """Finds out what the folders with files are.

    - ``train/cat/...``: top folders that are called like parts and hold class folders are parts.
      What lies beside them is in no class: loose files, parts without class folders, other folders.
    - ``cat/train/...``: folders inside the classes are parts where all of them are called so.
    - Else every folder with files is a class, named by its path.

    Args:
        folders: the paths, with ``/``, of all folders that hold files to be read, but the top one.
        data: what messages call the whole.
        nouns: what messages call the files.

    Raises:
        ValueError: there are parts but no classes in them, or it is not clear which folders are
            parts and which are classes.
    """
    rule = _rule([*folders], data, nouns)
    found = {folder: own for folder in sorted(folders) if (own := rule(folder))}
    merged, notes = same_names({name for name, _ in found.values()}, data)

    def place(folder: str) -> Place | None:
        own = rule(folder)
        return own and (merged.get(own[0], own[0]), own[1])

    places = {folder: (merged.get(name, name), part) for folder, (name, part) in found.items()}
    parts = in_order({part for _, part in places.values() if part})
    if rule.level and all(_is_no_class(name.casefold()) for name, _ in places.values()):
        raise _no_classes(parts, data, nouns)
    if called_so := sorted(name for name in places if not rule.tops and part_of(name)):
        listed = " and ".join(map(repr, called_so))
        notes.append(
            f"The folder {listed} in {data} is taken for a class, since its {nouns} lie in it as "
            "in the class folders beside it. If it is a part of the data, move it away; if it is a "
            "class, nothing is wrong."
        )
    return Layout(place, places, parts, notes)


def _rule(folders: Sequence[str], data: str, nouns: str) -> _Rule:
    below: dict[str, list[str]] = {}
    for folder in folders:
        top, _, rest = folder.partition("/")
        below.setdefault(top, [])
        if rest:
            below[top].append(rest)
    named = {top for top in below if part_of(top)}
    parts = frozenset(top for top in named if below[top])
    if named and not parts and len(named) == len(below):
        raise _no_classes(sorted(named), data, nouns)
    if not parts:
        return _Rule(level=_level_of_parts(folders))
    others = {rest for top in below.keys() - named for rest in below[top]}
    if others and len(parts) == 1:
        (part,) = parts
        if not others & {*below[part]}:
            other = next(top for top in sorted(below.keys() - named) if below[top])
            raise ValueError(
                f"In {data} the folder {part!r} is called like a part of the data, but {other!r} "
                "beside it holds folders of its own, with other names. If they are parts, give the "
                f"one to be read ({str(PurePosixPath(data) / part)!r}); if they are groups of "
                f"classes, call {part!r} something else."
            )
    shared = _shared({part: below[part] for part in parts})
    rule = _Rule(parts, 0, shared)
    unlabelled = frozenset(part for part in parts if _is_unlabelled(rule, part, below[part]))
    if unlabelled == parts:
        raise _no_classes(sorted(named), data, nouns)
    return _Rule(parts, 0, shared, unlabelled)


def _no_classes(parts: Sequence[str], data: str, nouns: str) -> ValueError:
    return ValueError(
        f"{data} has the parts {', '.join(parts)}, with {nouns} in them but no class folders. Put "
        f"the {nouns} of each class in a sub-folder named for the class, as in "
        f"{parts[0]}/cat; if {' and '.join(map(repr, parts))} are the classes themselves, put "
        f"them together in a folder {'train'!r}."
    )


def _shared(below: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The folders below all parts that are no classes themselves: images in train/images/cat."""
    shared: list[str] = []
    rests = {part: [rest.split("/") for rest in some] for part, some in below.items()}
    while True:
        # A folder with files is a class. training_set/training_set/cat repeats a part's name.
        if any(len(names) < 2 for some in rests.values() for names in some):
            return tuple(shared)
        firsts = {names[0] for some in rests.values() for names in some}
        repeated = all(
            part_of(names[0]) == part_of(part) for part, some in rests.items() for names in some
        )
        if len(firsts) > 1 and not repeated:
            return tuple(shared)
        shared.append(min(firsts))
        rests = {part: [names[1:] for names in some] for part, some in rests.items()}


def _is_unlabelled(rule: _Rule, part: str, rests: Sequence[str]) -> bool:
    """Whether a part's only folder is called like one of files that have no class."""
    places = [rule(f"{part}/{rest}") for rest in rests]
    names = {place[0].casefold() for place in places if place}
    return not names or (len(names) == 1 and _is_no_class(next(iter(names))))


def _is_no_class(name: str) -> bool:
    return name in _NO_CLASS_ALONE or part_of(name) is not None


def _level_of_parts(folders: Sequence[str]) -> int:
    """The depth at which all folders are parts, as in ``cat/train``; 0 where there is none."""
    paths = [folder.split("/") for folder in folders]
    for level in range(1, max(map(len, paths), default=0)):
        deep = [names for names in paths if len(names) > level]
        parts = {names[level] for names in deep}
        parents = {tuple(names[:level]) for names in deep}
        if all(map(part_of, parts)) and (len(parts) > 1 or len(parents) > 1):
            return level
    return 0


def same_names(names: Collection[str], data: str) -> tuple[dict[str, str], list[str]]:
    """Which class names are spellings of one name, and what to say of similar ones.

    Letters with accents have two encodings, and file systems differ in which they write; that and
    blanks at the end cannot be seen. Other capitals can mean another class ("a" and "A").

    Args:
        names: of the classes.
        data: what messages call the data.

    Returns:
        The one name for each that has several spellings, and sentences.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(plain_name(name), []).append(name)
    merged = {name: plain for plain, same in alike.items() if len(same) > 1 for name in same}
    notes = []
    if merged:
        one = next(iter(merged.values()))
        notes.append(
            f"Class names in {data} are spellings of one name, such as {one!r} (blanks at the "
            f"end, or other encodings of accents), and are read as one ({len(merged)} spellings "
            "in all)."
        )
    folded: dict[str, list[str]] = {}
    for name in sorted({merged.get(name, name) for name in names}):
        if len(name.rpartition("/")[2]) > 1:  # "a" and "A" are two letters
            folded.setdefault(name.casefold(), []).append(name)
    similar = [same for same in folded.values() if len(same) > 1]
    if similar:
        notes.append(
            f"The classes {' and '.join(map(repr, similar[0]))} in {data} differ only in capitals "
            f"and are read as {len(similar[0])} classes; rename them if they are one."
        )
    return merged, notes


def plain_name(name: str) -> str:
    """A class's name as it looks: composed accents (NFC), no blanks around any folder's name."""
    return "/".join(part.strip() for part in unicodedata.normalize("NFC", name).split("/"))
