"""What modules of others print while they are imported, made and called is none of the answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Sends what is printed meanwhile to standard error, so that standard output is the answer.

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
            sys.stdout.flush()  # what somebody kept a reference to it for
            os.dup2(kept, 1)
            os.close(kept)


def _descriptor(stream: object) -> int | None:
    """The number of a stream's file; None where it has none, as in tests and notebooks."""
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
