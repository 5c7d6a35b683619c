"""Writing files so that readers see them whole or not at all.

Symbolic links are followed: the target is written, and the link stays. An existing file's
permissions are kept. A file with several hard links is written only under the given name, so that
copies made by linking, as in backups, keep their content.
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

from quickstudy.errors import InputError

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
    """Why something cannot be written and what to do: the end of a sentence, without full stop."""
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
    # Folders are not created yet: other processes could be creating them at this moment.
    folder = next((each for each in target.parents if each.exists()), target)
    with explained(path), _temporary_beside(folder / target.name if folder.is_dir() else target):
        pass


def check_folder_writable(folder: Path) -> None:
    """Checks, before long work, that files can be written in a folder; creates it if necessary.

    Raises:
        UnwritableError: when they cannot be written, or a file is in the folder's place.
    """
    in_the_way = next((each for each in (folder, *folder.parents) if each.exists()), None)
    if in_the_way is not None and not in_the_way.is_dir():
        raise UnwritableError(
            f"{folder} cannot be created: {in_the_way} is a file; choose another folder.",
            errno.ENOTDIR,
        )
    check_writable(folder / "writable")


def check_apart(path: Path, source: Path) -> None:
    """Refuses (ValueError) to write a file that is, or is among, the files to be read."""
    if not (path.exists() and source.exists()):
        return
    if path.samefile(source) or (source.is_dir() and source.resolve() in path.resolve().parents):
        raise InputError(
            f"{path} is one of the files to be read and would be overwritten; choose another name."
        )


def target_of(path: Path) -> Path:
    """The file that writing to ``path`` changes: for a symbolic link, its final target.

    Raises:
        UnwritableError: when links form a circle, or lead into a folder that does not exist.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (RuntimeError, OSError):  # depends on Python's version
        target = path
    if target.is_symlink():
        raise UnwritableError(
            f"{path} is a link that leads back to itself; remove it or choose another name.",
            errno.ELOOP,
        )
    if not target.parent.exists():
        raise UnwritableError(
            f"{path} is a link to {target}, but there is no folder {target.parent}. Create that "
            "folder, or remove the link.",
            errno.ENOENT,
        )
    return target


@contextmanager
def atomically(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yields an empty file beside ``path``, which is flushed and renamed to ``path`` at the end.

    If writing fails, nothing is left of it. Several processes can write one path at the same time.
    If the path is a device or a pipe, such as /dev/stdout, the content is copied into it.

    Args:
        path: the file to write.
        keep: where to move the file that was at ``path`` before.

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
    """Removes temporary files that processes left in a folder when they died while writing.

    A writer holds a lock on its temporary file; the system releases it when the process ends in any
    way. Without such locks, files older than a day count as abandoned.
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
    """Whether a path is a device or a pipe, which must not be replaced by a file."""
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
    """Gives a new file the permissions and, where allowed, the owner of the old one."""
    about = old.stat()
    with suppress(OSError, AttributeError):  # only root can change owners; Windows has none
        os.chown(new, about.st_uid, about.st_gid)
    with suppress(OSError):
        new.chmod(stat.S_IMODE(about.st_mode))


def _new_temporary(path: Path) -> tuple[Path, int | None]:
    """A new file beside ``path``, and the descriptor whose lock marks its writer as alive."""
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
