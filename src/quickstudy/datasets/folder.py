"""Folders: what lies in them, and images, texts or sounds in a sub-folder a class."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from quickstudy.datasets.decoding import RawExamples, Splits
from quickstudy.datasets.kinds import KINDS, kind_of_file

FOLDERS_SPLIT = "folders"
"""The published split of a folder whose classes lie in train, validation and test folders."""

CLEAR_MAJORITY = 3
"""A folder holds things of a kind when they outnumber those of all others so many times."""

_PARTS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class FoundFile:
    """A file: its path inside the folder (with ``/``), size in bytes, and time of change."""

    path: str
    size: int
    changed_ns: int


@dataclass(frozen=True)
class Listing:
    """All files and sub-folders (paths with ``/``) of a folder, sorted; hidden ones left out."""

    folder: Path
    files: Sequence[FoundFile]
    folders: Sequence[str]


def list_folder(folder: Path) -> Listing:
    """Everything that lies in a folder, however deep. Links are followed, but never twice."""
    files: list[FoundFile] = []
    folders: list[str] = []
    visited: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        inner[:] = [] if real in visited else [each for each in inner if not _is_hidden(each)]
        if real in visited:
            continue
        visited.add(real)
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        folders.extend(str(inside / each) for each in inner)
        for name in names:
            if not _is_hidden(name):
                path = os.path.join(place, name)  # noqa: PTH118 - much faster for many files
                # A link that leads nowhere is listed, so that it is reported as unreadable.
                status = os.stat(path) if os.path.exists(path) else os.lstat(path)  # noqa: PTH110, PTH116
                files.append(FoundFile(str(inside / name), status.st_size, status.st_mtime_ns))
    files.sort(key=lambda file: file.path)
    return Listing(folder, files, sorted(folders))


@dataclass(frozen=True)
class ClassFolders:
    """Files of images, of texts (one a file) or of sounds, in one sub-folder a class.

    A class is named by the path of its folder, so folders may be nested. Where the top folders are
    called train, validation (val) and test, they are parts and not classes: if no class is in two
    of them they make the published split "folders", else the examples of a class are pooled.

    Args:
        listing: what lies in the folder.
    """

    listing: Listing

    def identity(self) -> dict[str, Any]:
        """What the raw examples follow from: names, sizes and times, as reading all is slow."""
        files = [[f.path, f.size, f.changed_ns] for f in self._files if "/" in f.path]
        return {"folder": str(self.listing.folder.resolve()), "files": files}

    def kind(self) -> str:
        """The kind of thing that clearly most files in sub-folders hold; others are warned of.

        Raises:
            ValueError: there are no such files, or none of the kinds is in a clear majority.
        """
        folder = self.listing.folder
        found = Counter(kind_of_file(f.path) for f in self._files if "/" in f.path)
        counts = {str(kind): count for kind, count in found.most_common()}
        if not counts:
            loose = Counter(kind_of_file(f.path) for f in self._files).most_common(1)
            return str(loose[0][0]) if loose else next(iter(KINDS))  # reading will refuse it
        kind, most = next(iter(counts.items()))
        rest = sum(counts.values()) - most
        if not rest:
            return kind
        listed = ", ".join(f"{count} {KINDS[each].nouns}" for each, count in counts.items())
        if most < CLEAR_MAJORITY * rest:
            raise ValueError(
                f"The folder {folder} mixes kinds of files: {listed}. Take out what are no "
                "examples, or say by `inputs` which are meant (ImageInputs, TextInputs, "
                "AudioInputs)."
            )
        warnings.warn(
            f"The class folders of {folder} hold {listed}: only the {KINDS[kind].nouns} are read.",
            stacklevel=3,
        )
        return kind

    @contextmanager
    def read(self, kind: str) -> Iterator[RawExamples]:
        """The files of a kind by class, both in alphabetical order.

        Raises:
            ValueError: there are no such files or no sub-folders, or a sub-folder is empty.
        """
        folder = self.listing.folder
        classes, splits = self._classes(kind)
        self._check_folders(classes, kind)
        names = sorted(classes)
        paths = [path for name in names for path in classes[name]]
        noun = KINDS[kind].noun

        def rows(start: int) -> Iterator[tuple[str, Any]]:
            for path in paths[start:]:
                yield f"The {noun} {str(folder / path)!r}", folder / path

        yield RawExamples(names, [len(classes[name]) for name in names], rows, splits)

    @property
    def looks_right(self) -> bool:
        """Whether there are files of some kind in two folders or more that may be classes."""
        tops = {f.path.partition("/")[0].lower() for f in self._files if "/" in f.path}
        return len(tops) > 1 and not tops <= set(_PARTS)

    @cached_property
    def _files(self) -> list[FoundFile]:
        return [file for file in self.listing.files if kind_of_file(file.path)]

    def _classes(self, kind: str) -> tuple[dict[str, list[str]], Splits]:
        """The paths of each class's files, and the split that the folders make."""
        nouns, folder = KINDS[kind].nouns, self.listing.folder
        by_folder: dict[str, list[str]] = {}
        for file in self._files:
            if kind_of_file(file.path) == kind:
                by_folder.setdefault(str(PurePosixPath(file.path).parent), []).append(file.path)
        loose = [path for path in by_folder.pop(".", []) if not _is_about_the_data(path)]
        if not by_folder:
            what = f"{len(loose)} {nouns} but no sub-folder with {nouns}"
            if not loose:
                what = f"no {nouns}" if self._files else "no images, texts or sounds"
            raise ValueError(
                f"The folder {folder} has {what}. Put the files of each class in a sub-folder "
                "named for the class."
            )
        if loose:
            warnings.warn(
                f"{len(loose)} {nouns} lie in {folder} outside the class folders and are left out: "
                f"{loose[0]!r} is the first.",
                stacklevel=2,
            )
        tops = {name.partition("/")[0] for name in by_folder}
        nested = all("/" in name for name in by_folder)
        if not nested or len(tops) < 2 or not all(top.lower() in _PARTS for top in tops):
            return by_folder, {}
        return _by_parts(by_folder)

    def _check_folders(self, classes: Mapping[str, Sequence[str]], kind: str) -> None:
        used = {str(PurePosixPath(path).parent) for paths in classes.values() for path in paths}
        used |= {str(parent) for path in used for parent in PurePosixPath(path).parents}
        empty = [name for name in self.listing.folders if name not in used]
        if empty:
            nouns, endings = KINDS[kind].nouns, sorted(KINDS[kind].endings)
            raise ValueError(
                f"The class folder {empty[0]!r} in {self.listing.folder} has no {nouns} "
                f"({len(empty)} such). Put {nouns} in it or remove it; {nouns} end in "
                f"{', '.join(endings)}."
            )


def _by_parts(by_folder: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], Splits]:
    classes: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for name, paths in by_folder.items():
        top, _, own_name = name.partition("/")
        classes.setdefault(own_name, []).extend(paths)
        parts.setdefault(_PARTS[top.lower()], []).append(own_name)
    divided = sum(map(len, parts.values())) == len(classes)
    ordered: dict[str, list[str]] = {
        part: sorted(parts[part]) for part in ("train", "validation", "test") if part in parts
    }
    return classes, {FOLDERS_SPLIT: ordered} if divided else {}


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_about_the_data(path: str) -> bool:
    return PurePosixPath(path).stem.lower() in ("readme", "license", "licence")
