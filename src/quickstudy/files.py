"""Writing files so that readers see them whole or not at all.

All of it follows symbolic links: what a link points to is written, and the link stays. Permissions
of a file that was there are kept. A file with several hard links is written under the given name
only, so that copies made by linking (backups are) keep what they had.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
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


def reason_of(error: Exception) -> str:
    """Why something cannot be written and what to do, as the end of a sentence without its stop."""
    number = error.errno if isinstance(error, OSError) else None
    return _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error)


def check_writable(path: Path) -> None:
    """Finds out, before long work, whether a file can be written.

    Raises:
        UnwritableError: when it cannot, or a folder is in its place.
    """
    target = target_of(path)
    if _is_special(target):
        with explained(path), target.open("ab"):
            return
    # Folders are not made yet: other processes may be making them at this moment.
    folder = next(each for each in target.parents if each.exists())
    with explained(path), _temporary_beside(folder / target.name if folder.is_dir() else target):
        pass


def check_folder_writable(folder: Path) -> None:
    """Finds out, before long work, whether files can be written in a folder, made if need be.

    Raises:
        UnwritableError: when they cannot, or a file is in its place.
    """
    in_the_way = next((each for each in (folder, *folder.parents) if each.exists()), None)
    if in_the_way is not None and not in_the_way.is_dir():
        raise UnwritableError(
            f"{folder} cannot be made: {in_the_way} is a file; choose another folder.",
            errno.ENOTDIR,
        )
    check_writable(folder / "writable")


def check_apart(path: Path, source: Path) -> None:
    """Refuses a file to be written that is, or lies among, what is read (ValueError)."""
    if not (path.exists() and source.exists()):
        return
    if path.samefile(source) or (source.is_dir() and source.resolve() in path.resolve().parents):
        raise ValueError(
            f"{path} is part of what is read, and would be overwritten; choose another name."
        )


def target_of(path: Path) -> Path:
    """What is written where ``path`` is to be: for a symbolic link what it points to at last.

    Raises:
        UnwritableError: when links lead round in a circle, or into a folder that is not there.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (RuntimeError, OSError):  # by version of Python
        target = path
    if target.is_symlink():
        raise UnwritableError(
            f"{path} is a link that leads back to itself; remove it or choose another name.",
            errno.ELOOP,
        )
    if not target.parent.exists():
        raise UnwritableError(
            f"{path} is a link to {target}, and there is no folder {target.parent}. Make that "
            "folder, or remove the link.",
            errno.ENOENT,
        )
    return target


@contextmanager
def atomically(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """An empty file beside ``path``; what was written there is flushed to the disk and renamed.

    Nothing is left of it when the writing fails. Processes may write one path at the same time.
    Into what is no file but a device or a pipe, such as /dev/stdout, the content is copied.

    Args:
        path: what it becomes.
        keep: where the file that was at ``path`` before is moved.

    Raises:
        UnwritableError: when the disk is full, the folder or the file is write-protected, or a
            folder is in the file's place.
    """
    target = target_of(path)
    if _is_special(target):
        with explained(path), _copied_into(target) as temporary:
            yield temporary
        return
    with explained(path), _temporary_beside(target) as temporary:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            _take_over_permissions(temporary, target)
            if keep is not None:
                target.replace(keep)
        temporary.replace(target)
        _flush_folder(target.parent)


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
    if path.exists() and not os.access(path, os.W_OK):
        raise UnwritableError(
            f"{path} cannot be written: it is write-protected; change its permissions or choose "
            "another name.",
            errno.EACCES,
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


def _is_special(path: Path) -> bool:
    """Whether it is a device or a pipe, in whose place no file may be put."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def _copied_into(device: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "content")
        temporary.touch()
        yield temporary
        with temporary.open("rb") as content, device.open("wb") as file:
            shutil.copyfileobj(content, file)


def _take_over_permissions(new: Path, old: Path) -> None:
    """Gives a new file the permissions, and where that is allowed the owner, of the old one."""
    about = old.stat()
    with suppress(OSError, AttributeError):  # only root changes owners; Windows has none
        os.chown(new, about.st_uid, about.st_gid)
    with suppress(OSError):
        new.chmod(stat.S_IMODE(about.st_mode))


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
