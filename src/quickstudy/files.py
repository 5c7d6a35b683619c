"""Writing files so that readers see them whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_ABANDONED_AFTER_SECONDS = 24 * 3600
_TEMPORARY = re.compile(r"\..*-[0-9a-f]{32}\.tmp", re.DOTALL)
"""As :func:`_new_temporary` names them; other programs have such files too."""

_REASONS = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "no more room is allowed to you on this disk; remove something",
    errno.EFBIG: "no file may become so large here; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EACCES: "you may not write there; change the folder's permissions or choose another",
    errno.EPERM: "you may not write there; change the folder's permissions or choose another",
}


class UnwritableError(OSError):
    """A file cannot be written: which one and why, in a sentence; ``errno`` is the system's."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.errno = number


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Says in a sentence why ``path`` cannot be written (UnwritableError).

    An error about a temporary file beside ``path`` is one about ``path``.
    """
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        hidden = _TEMPORARY.fullmatch(Path(str(error.filename)).name)
        if isinstance(error, UnwritableError) or (number not in _REASONS and not hidden):
            raise
        unusual = f"{error.strerror}; choose another place"
        raise UnwritableError(
            f"{path} cannot be written: {_REASONS.get(number, unusual)}.", number
        ) from error


def check_writable(path: Path) -> None:
    """Finds out, before long work, whether a file can be written.

    Raises:
        UnwritableError: when it cannot, or a folder is in its place.
    """
    is_new = not path.parent.exists()
    with explained(path), _temporary_beside(path):
        pass
    if is_new:
        path.parent.rmdir()


@contextmanager
def atomically(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """An empty file beside ``path``; what was written there is flushed to the disk and renamed.

    Nothing is left of it when the writing fails. Processes may write one path at the same time.

    Args:
        path: what it becomes.
        keep: where the file that was at ``path`` before is moved.

    Raises:
        UnwritableError: when the disk is full, the folder may not be written, or a folder is in
            the file's place.
    """
    with explained(path), _temporary_beside(path) as temporary:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _flush_folder(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def remove_abandoned(folder: Path) -> None:
    """Removes what processes that died while writing have left in a folder.

    Whoever writes holds a lock on the temporary file, which the system takes back when the process
    ends, however it does. Where there are no such locks, files of a day ago count as abandoned.
    """
    for temporary in folder.glob(".*.tmp"):
        if not _TEMPORARY.fullmatch(temporary.name):
            continue
        with suppress(OSError):
            if fcntl is None:
                if time.time() - temporary.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                    temporary.unlink()
                continue
            with temporary.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()


@contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    """A new file beside ``path``, removed in the end if it is still there."""
    if path.is_dir():
        raise UnwritableError(
            f"{path} is a folder; give the name of a file, such as one in it.", errno.EISDIR
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary, holding = _new_temporary(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        if holding is not None:
            os.close(holding)


def _new_temporary(path: Path) -> tuple[Path, int | None]:
    """A new file beside ``path``, and the descriptor whose lock says that its writer lives."""
    while True:
        temporary = path.parent / f".{path.stem}-{uuid.uuid4().hex}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if fcntl is None:
            os.close(descriptor)
            return temporary, None
        with suppress(OSError):  # a file system without locks: nobody there removes files by them
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)  # taken for abandoned between opening and locking


def _flush_folder(folder: Path) -> None:
    """Flushes the renaming too; not every system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
