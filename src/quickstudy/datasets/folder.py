"""Folders: what lies in them, their ``class_splits.json``, and images in a sub-folder a class."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from quickstudy.datasets.decoding import RawExamples, Splits

CLASS_SPLITS_FILE = "class_splits.json"
FOLDERS_SPLIT = "folders"
"""The published split of a folder whose classes lie in train, validation and test folders."""

IMAGE_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
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
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. {expected}") from error
    if not isinstance(splits, dict):
        raise ValueError(f"{path} holds a {type(splits).__name__}. {expected}")
    for split, parts in splits.items():
        if not isinstance(parts, dict) or not parts:
            raise ValueError(f"The split {split!r} in {path} is {str(parts)[:60]!r}. {expected}")
        part_of: dict[str, str] = {}
        for part, names in parts.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError(
                    f"Part {part!r} of the split {split!r} in {path} is not a list of class names. "
                    f"{expected}"
                )
            if not names:
                raise ValueError(f"Part {part!r} of the split {split!r} in {path} has no classes.")
            for name in names:
                if name in part_of:
                    both = f"in {part_of[name]!r} and in {part!r}"
                    raise ValueError(
                        f"Class {name!r} of the split {split!r} in {path} is named twice: {both}. "
                        "A class belongs to one part."
                    )
                part_of[name] = part
    return splits


def check_class_splits(folder: Path, splits: Splits, class_names: Sequence[str]) -> None:
    """Refuses divisions that name classes which the data do not have (ValueError)."""
    known = set(class_names)
    for split, parts in splits.items():
        unknown = [name for names in parts.values() for name in names if name not in known]
        if unknown:
            raise ValueError(
                f"The split {split!r} in {folder / CLASS_SPLITS_FILE} names class {unknown[0]!r} "
                f"({len(unknown)} such), which the data do not have; they have classes like "
                f"{class_names[0]!r}."
            )


@dataclass(frozen=True)
class ImageFolder:
    """Images in one sub-folder a class.

    A class is named by the path of its folder, so folders may be nested. Where the top folders are
    called train, validation (val) and test, they are parts and not classes: if no class is in two
    of them they make the published split "folders", else the images of a class are pooled.

    Args:
        listing: what lies in the folder.
    """

    listing: Listing

    def identity(self) -> dict[str, Any]:
        """What the raw examples follow from: names, sizes and times, as reading all is slow."""
        images = [[file.path, file.size, file.changed_ns] for file in self._images]
        return {"folder": str(self.listing.folder.resolve()), "images": images}

    @contextmanager
    def read(self) -> Iterator[RawExamples]:
        """The images by class, both in alphabetical order.

        Raises:
            ValueError: there are no images or no sub-folders, or a sub-folder is empty.
        """
        folder = self.listing.folder
        classes, splits = self._classes
        self._check_folders(classes)
        names = sorted(classes)
        paths = [path for name in names for path in classes[name]]
        rows = ((f"The image {str(folder / path)!r}", folder / path) for path in paths)
        yield RawExamples(names, [len(classes[name]) for name in names], rows, splits)

    @cached_property
    def _images(self) -> list[FoundFile]:
        files = self.listing.files
        return [f for f in files if PurePosixPath(f.path).suffix.lower() in IMAGE_ENDINGS]

    @property
    def _classes(self) -> tuple[dict[str, list[str]], Splits]:
        """The paths of each class's images, and the split that the folders make."""
        by_folder: dict[str, list[str]] = {}
        for file in self._images:
            by_folder.setdefault(str(PurePosixPath(file.path).parent), []).append(file.path)
        loose = by_folder.pop(".", [])
        if not by_folder:
            what = f"{len(loose)} images but no sub-folder with images" if loose else "no images"
            raise ValueError(
                f"The folder {self.listing.folder} has {what}. Put the images of each class in a "
                "sub-folder named for the class."
            )
        if loose:
            warnings.warn(
                f"{len(loose)} images lie in {self.listing.folder} outside the class folders and "
                f"are left out: {loose[0]!r} is the first.",
                stacklevel=2,
            )
        tops = {name.partition("/")[0] for name in by_folder}
        nested = all("/" in name for name in by_folder)
        if not nested or len(tops) < 2 or not all(top.lower() in _PARTS for top in tops):
            return by_folder, {}
        return _by_parts(by_folder)

    def _check_folders(self, classes: Mapping[str, Sequence[str]]) -> None:
        used = {str(PurePosixPath(path).parent) for paths in classes.values() for path in paths}
        used |= {str(parent) for path in used for parent in PurePosixPath(path).parents}
        empty = [name for name in self.listing.folders if name not in used]
        if empty:
            raise ValueError(
                f"The class folder {empty[0]!r} in {self.listing.folder} has no images "
                f"({len(empty)} such). Put images in it or remove it; images end in .jpg, .png "
                "and the like."
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
