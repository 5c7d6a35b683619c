"""Writing files so that readers see them whole or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ABANDONED_AFTER_SECONDS = 24 * 3600


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; what was written there is flushed to the disk and renamed.

    Nothing is left of it when the writing fails. Processes may write one path at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.parent / f".{path.stem}-{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _remove_abandoned(folder: Path) -> None:
    """Removes what processes that were killed while writing have left."""
    for temporary in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - temporary.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                temporary.unlink()
