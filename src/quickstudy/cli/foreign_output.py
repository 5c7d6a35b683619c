"""Keeps what third-party modules print, when imported, created or called, out of the answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Redirects printed text to standard error, so that standard output holds only the answer.

    That includes what libraries and child processes write below Python.
    """
    own = _descriptor(sys.stdout) == 1 and _descriptor(sys.stderr) is not None
    kept = os.dup(1) if own else -1
    try:
        if own:
            sys.stdout.flush()
            os.dup2(sys.stderr.fileno(), 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if own:
            sys.stdout.flush()  # somebody may have kept a reference to it and printed there
            os.dup2(kept, 1)
            os.close(kept)


def _descriptor(stream: object) -> int | None:
    """A stream's file descriptor; None if it has none, as in tests and notebooks."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
