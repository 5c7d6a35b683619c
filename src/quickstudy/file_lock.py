"""One process at a time changes a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from quickstudy.files import explained, target_of

_SAID_AFTER_SECONDS = 5.0
_MOST_SECONDS = 600.0


@contextmanager
def changing(path: Path, most_seconds: float = _MOST_SECONDS) -> Iterator[None]:
    """Keeps out others who change ``path`` in this way: reading, changing and writing are one step.

    A lock beside the file, ``.NAME.lock``, also keeps out other machines that share the folder. It
    is gone afterwards; when a process dies the system gives its lock back. Within a process other
    threads wait too, and a thread may enter again.

    Args:
        path: the file; whoever names it by a link waits for the same lock.
        most_seconds: to wait for others.

    Raises:
        ValueError: when others take longer.
        UnwritableError: when nothing can be written in the file's folder.
    """
    target = target_of(path).resolve()
    place = target.with_name(f".{target.name}.lock")
    lock = FileLock(place, is_singleton=True)
    with explained(path):
        try:
            lock.acquire(timeout=min(_SAID_AFTER_SECONDS, most_seconds))
        except Timeout:
            print(f"Waiting for another process that changes {path} ...", file=sys.stderr)
            try:
                lock.acquire(timeout=max(0.0, most_seconds - _SAID_AFTER_SECONDS))
            except Timeout as error:
                raise ValueError(
                    f"{path} is being changed by another process, for more than "
                    f"{most_seconds:.0f} seconds. Try again when it is done; if there is no such "
                    f"process, remove {place}."
                ) from error
    try:
        yield
    finally:
        if lock.lock_counter == 1:  # whoever waits for this very file notices that it is gone
            with suppress(OSError):
                place.unlink()
        lock.release()
