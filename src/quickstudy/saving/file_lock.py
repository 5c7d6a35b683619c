"""Locks that let only one process at a time change a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from quickstudy.errors import InputError
from quickstudy.saving.files import explained, target_of

logger = logging.getLogger(__name__)

_SAID_AFTER_SECONDS = 5.0
_MOST_SECONDS = 600.0


@contextmanager
def changing(path: Path, most_seconds: float = _MOST_SECONDS) -> Iterator[None]:
    """Locks ``path`` against other changes, so that reading, changing and writing are one step.

    A lock beside the file, ``.NAME.lock``, also keeps out other machines that share the folder. It
    is removed afterwards; if a process dies, the system releases its lock. Other threads of the
    same process wait too; one thread can enter several times.

    Args:
        path: the file; a link to it has the same lock.
        most_seconds: how long to wait for others.

    Raises:
        ValueError: when others hold the lock for longer.
        UnwritableError: when nothing can be written in the file's folder.
    """
    target = target_of(path).resolve()
    place = target.with_name(f".{target.name}.lock")
    lock = FileLock(place, is_singleton=True)
    with explained(path):
        try:
            lock.acquire(timeout=min(_SAID_AFTER_SECONDS, most_seconds))
        except Timeout:
            logger.warning("Waiting for another process that is changing %s ...", path)
            try:
                lock.acquire(timeout=max(0.0, most_seconds - _SAID_AFTER_SECONDS))
            except Timeout as error:
                raise InputError(
                    f"{path} has been locked by another process for more than {most_seconds:.0f} "
                    "seconds. Try again when that process has finished; if there is none, remove "
                    f"{place}."
                ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # whoever waits for this lock file notices that it was removed
            with suppress(OSError):
                place.unlink()
        lock.release()
