"""One process at a time in a run directory."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from quickstudy.errors import InputError
from quickstudy.saving.files import explained, fcntl

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of ``folder`` that ask in the same way.

    A folder that is made for it and stays empty is removed again.

    The system gives the lock back when a process ends, however it does. Where there are no such
    locks (Windows), the file itself is the lock, and has to be removed after a crash.

    Raises:
        ValueError: when another process is there; it is named.
        UnwritableError: when nothing can be written there.
    """
    path, is_new = folder / NAME, not folder.exists()
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = _claim(path) if fcntl is not None else _claim_by_existence(path)
    try:
        with explained(path):
            file.truncate(0)
            about = {"process": os.getpid(), "host": platform.node(), "since": time.time()}
            file.write(json.dumps(about))
            file.flush()
        yield
    finally:
        if fcntl is None:
            file.close()  # Windows removes no open file
        path.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written on a full disk
            file.close()
        if is_new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _claim(path: Path) -> TextIO:
    assert fcntl is not None
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                raise InputError(_occupied(path, file)) from error
        except OSError:
            return file  # a file system without locks
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # whoever had it before removed it between opening and locking


def _claim_by_existence(path: Path) -> TextIO:
    try:
        return path.open("x+", encoding="utf-8")
    except FileExistsError as error:
        with path.open(encoding="utf-8") as file:
            occupied = _occupied(path, file)
        raise InputError(f"{occupied} If that process is gone, remove {path}.") from error


def _occupied(path: Path, file: TextIO) -> str:
    file.seek(0)
    try:
        about = json.loads(file.read())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["since"]))
        who = f"process {about['process']} on {about['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"The run in {path.parent} is being trained already by {who}. Wait for it or stop it, or "
        "choose another folder."
    )
