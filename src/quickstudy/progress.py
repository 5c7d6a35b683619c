"""Reports of how far long work has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Called with a description of the work, how much of it is done, and how much there is (0 if
unknown)."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report(work: str, done: int, total: int) -> None:
    """Reports how far some work has come; without effect outside of :func:`listening`."""
    if (listener := _listener.get()) is not None:
        listener(work, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Calls ``listener`` with every report that is made inside."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)
