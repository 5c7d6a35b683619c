"""One process at a time in a run directory."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from quickstudy.errors import InputError
from quickstudy.saving.files import explained

NAME = ".lock"

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems that have no locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of ``folder`` that ask in the same way.

    A folder that is made for it and stays empty is removed again. The system gives the lock back
    when a process ends, however it does.

    Raises:
        ValueError: when another process is there; it is named.
        UnwritableError: when nothing can be written there.
    """
    path, is_new = folder / NAME, not folder.exists()
    held: list[int] = []  # the descriptor of the lock's file
    lock = FileLock(path, timeout=0, fallback_to_soft=False, on_acquired=held.append)
    try:
        with explained(path):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout as error:
                raise InputError(_occupied(path)) from error
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
            for descriptor in held:
                _sign(descriptor)
        yield
    finally:
        if held:
            with suppress(OSError):  # Windows removes no open file; there the release does
                path.unlink()
        lock.release()
        if is_new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _sign(descriptor: int) -> None:
    """Writes who holds the lock into its file."""
    about = {"process": os.getpid(), "host": platform.node(), "since": time.time()}
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        file.truncate()
        file.write(json.dumps(about))


def _occupied(path: Path) -> str:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["since"]))
        who = f"process {about['process']} on {about['host']}, since {since}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"The run in {path.parent} is being trained already by {who}. Wait for it or stop it, or "
        "choose another folder."
    )
