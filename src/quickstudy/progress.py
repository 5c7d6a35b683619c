"""How far long work has come, for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Told = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is (0 if unknown)."""

_told: ContextVar[Told | None] = ContextVar("told", default=None)


def tell(what: str, done: int, total: int) -> None:
    """Says how far something has come; heard only where :func:`listening` is in force."""
    told = _told.get()
    if told is not None:
        told(what, done, total)


@contextmanager
def listening(told: Told) -> Iterator[None]:
    """Lets ``told`` hear of the work that is done inside."""
    before = _told.set(told)
    try:
        yield
    finally:
        _told.reset(before)
