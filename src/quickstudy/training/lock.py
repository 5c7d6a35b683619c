"""One process at a time in a run directory."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of ``folder`` that ask in the same way.

    The system gives the lock back when a process ends, however it does. Where there are no such
    locks (Windows), everybody is let in.

    Raises:
        ValueError: when another process is there; it is named.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with file:
                raise ValueError(_occupied(folder, file)) from error
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # whoever had it before removed it between opening and locking
    with file:
        file.truncate(0)
        about = {"process": os.getpid(), "host": platform.node(), "since": time.time()}
        file.write(json.dumps(about))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _occupied(folder: Path, file: TextIO) -> str:
    file.seek(0)
    try:
        about = json.loads(file.read())
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(about["since"]))
        who = f"process {about['process']} on {about['host']}, since {since}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"The run in {folder} is being trained already by {who}. Wait for it or stop it, or choose "
        "another folder."
    )
