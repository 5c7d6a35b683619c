"""The contents of a folder, without the files that systems leave there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

_SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "__pycache__", "$recycle.bin", "recycler", "recycled", "lost+found"),
        *("system volume information", "network trash folder", "temporary items", "#recycle"),
        *("#snapshot", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "@sharebin"),
    )
)
_CHECKED_DISK = re.compile(r"found\.\d{3}", re.IGNORECASE)
"""Folders of what Windows finds when it checks a disk."""

_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})


def is_of_the_system(name: str) -> bool:
    """Whether a file or folder is hidden, or was created by an operating system or file server."""
    plain = name.casefold()
    is_known = plain in _SYSTEM_FOLDERS or plain in _SYSTEM_FILES
    return is_known or name.startswith((".", "~$")) or bool(_CHECKED_DISK.fullmatch(name))


def is_about_the_data(path: str) -> bool:
    """Whether a file is a README or a licence."""
    return PurePosixPath(path).stem.casefold() in ("readme", "license", "licence")


@dataclass(frozen=True)
class FoundFile:
    """A file: its path inside the folder (with ``/``), size in bytes, and time of change."""

    path: str
    size: int
    changed_ns: int

    @cached_property
    def folder(self) -> str:
        """The path of its folder; "" for the top one."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Listing:
    """All files and sub-folders (paths with ``/``) of a folder, sorted; hidden ones left out."""

    folder: Path
    files: Sequence[FoundFile]
    folders: Sequence[str]

    def inside(self, top: str) -> Listing:
        """The contents of the sub-folder ``top``."""
        start = len(top) + 1
        within = f"{top}/"
        return Listing(
            self.folder / top,
            [
                FoundFile(file.path[start:], file.size, file.changed_ns)
                for file in self.files
                if file.path.startswith(within)
            ],
            [folder[start:] for folder in self.folders if folder.startswith(within)],
        )


def list_folder(folder: Path) -> Listing:
    """Everything in a folder, at any depth. Links are followed, but never twice."""
    files: list[FoundFile] = []
    folders: list[str] = []
    visited: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        known = real in visited
        inner[:] = [] if known else sorted(each for each in inner if not is_of_the_system(each))
        if known:
            continue
        visited.add(real)
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        folders.extend(str(inside / each) for each in inner)
        for name in names:
            if not is_of_the_system(name):
                path = os.path.join(place, name)  # noqa: PTH118 - much faster for many files
                # A broken link is listed, so that it is reported as unreadable.
                status = os.stat(path) if os.path.exists(path) else os.lstat(path)  # noqa: PTH110, PTH116
                files.append(FoundFile(str(inside / name), status.st_size, status.st_mtime_ns))
    files.sort(key=lambda file: file.path)
    return Listing(folder, files, sorted(folders))


def counted_endings(paths: Iterable[str]) -> str:
    """The number of files with each ending, the most frequent first: ``2 .m4a, 1 .pdf``."""
    counts: dict[str, int] = {}
    for path in paths:
        ending = PurePosixPath(path).suffix.lower() or "without an ending"
        counts[ending] = counts.get(ending, 0) + 1
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    listed = [f"{count} {ending}" for ending, count in ordered[:5]]
    return ", ".join(listed) + (", ..." if len(ordered) > 5 else "")
