"""Which sub-folders are classes, and which are parts such as train and test.

Only paths are inspected. The positions of the files decide what a folder is: a folder with the name
of a part is a part if it contains class folders. The rules are the same for images, texts and
sounds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from quickstudy.datasets.sources.parts import in_order, part_of
from quickstudy.errors import InputError

Place = tuple[str, str]
"""The class of a folder, and the name of its part; "" if there are no parts."""

_UNLABELLED = frozenset({"unlabelled", "unlabeled", "unsup", "unsupervised"})
_NO_CLASS_ALONE = frozenset(
    ("unknown", "unsorted", "images", "image", "img", "imgs", "all", "data", "files")
)
"""Names of a part's only folder that holds files without a class, such as ``test/all`` for Keras.
"""


@dataclass(frozen=True)
class Layout:
    """The roles of the folders of a data set.

    Args:
        place: returns the class and the part of a folder, given its path; None if it is in no
            class.
        places: the class and the part of each folder with files that is in a class.
        parts: the parts, in order; empty if the data are not divided.
        notes: warnings, in sentences.
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
        """Whether every folder with files is a class named by the folder's path."""
        return all(place == (folder, "") for folder, place in self.places.items())


@dataclass(frozen=True)
class _Rule:
    """How a path is split into part and class.

    Args:
        tops: top-level folders that are parts; empty if the parts are at another level.
        level: depth of the parts inside the classes; 0 if there are none.
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
    """Finds out which folders with files are classes and which are parts.

    - ``train/cat/...``: top-level folders with names of parts that hold class folders are parts.
    Anything beside them is in no class: loose files, parts without class folders, other folders. -
    ``cat/train/...``: folders inside the classes are parts if all of them have names of parts. -
    Otherwise every folder with files is a class, named by its path.

    Args:
        folders: the paths, with ``/``, of all folders below the top one that hold files to read.
        data: the name of the data in messages.
        nouns: the word for the files in messages.

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
            f"The folder {listed} in {data} is read as a class, because its {nouns} lie directly "
            "in it, as in the class folders beside it. If it is a part of the data, move it "
            "elsewhere; if it is a class, nothing is wrong."
        )
    if not parts and (repeated := _repeated(places)):
        first, second, name = repeated
        notes.append(
            f"The folders {first!r} and {second!r} in {data} hold folders of the same names, which "
            f"are read as different classes ({first}/{name} and {second}/{name}, for one). If they "
            "are parts of the data, read one of them, or call them train and test; if they are "
            "groups of classes, nothing is wrong."
        )
    return Layout(place, places, parts, notes)


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
            raise InputError(
                f"In {data} the folder {part!r} has the name of a part of the data, but {other!r} "
                "beside it also holds folders, with other names. If they are parts, give the path "
                f"of the one to read ({str(PurePosixPath(data) / part)!r}); if they are groups of "
                f"classes, rename {part!r}."
            )
    shared = _shared({part: below[part] for part in parts})
    rule = _Rule(parts, 0, shared)
    unlabelled = frozenset(part for part in parts if _is_unlabelled(rule, part, below[part]))
    if unlabelled == parts:
        raise _no_classes(sorted(named), data, nouns)
    return _Rule(parts, 0, shared, unlabelled)


def _no_classes(parts: Sequence[str], data: str, nouns: str) -> InputError:
    return InputError(
        f"{data} has the parts {', '.join(parts)}, with {nouns} in them but no class folders. Put "
        f"the {nouns} of each class in a sub-folder named after the class, as in {parts[0]}/cat; "
        f"if {' and '.join(map(repr, parts))} are themselves the classes, put them together in a "
        f"folder {'train'!r}."
    )


def _shared(below: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Folders below the parts that are not classes themselves: ``images`` in train/images/cat."""
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
    """Whether a part's only folder has a name for files without a class."""
    places = [rule(f"{part}/{rest}") for rest in rests]
    names = {place[0].casefold() for place in places if place}
    return not names or (len(names) == 1 and _is_no_class(next(iter(names))))


def _is_no_class(name: str) -> bool:
    return name in _NO_CLASS_ALONE or part_of(name) is not None


def _level_of_parts(folders: Sequence[str]) -> int:
    """The depth at which all folders are parts, as in ``cat/train``; 0 if there is none."""
    paths = [folder.split("/") for folder in folders]
    for level in range(1, max(map(len, paths), default=0)):
        deep = [names for names in paths if len(names) > level]
        parts = {names[level] for names in deep}
        parents = {tuple(names[:level]) for names in deep}
        if all(map(part_of, parts)) and (len(parts) > 1 or len(parents) > 1):
            return level
    return 0


def same_names(names: Collection[str], data: str) -> tuple[dict[str, str], list[str]]:
    """Class names that are spellings of the same name, and notes on them and on similar names.

    Letters with accents have two encodings, and file systems differ in which one they write; this
    and trailing spaces cannot be seen. Upper and lower case can mean different classes ("a" and
    "A").

    Args:
        names: of the classes.
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
