"""Remarks on inputs that were decoded, but not exactly as they are.

A decoder calls :func:`remark`. By itself that is a warning; where many inputs are decoded, the
remarks are counted, and each is said once (:class:`Remarks`).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_of_thread = threading.local()


def remark(raw: Any, noun: str, text: str) -> None:
    """Makes a remark on an input that is being decoded.

    Args:
        raw: the input: a path, or an object that is named by its type.
        noun: the word for such an input in messages.
        text: the remark, without a full stop: "its values use only 12 of 16 bits".
    """
    collected: list[str] | None = getattr(_of_thread, "collected", None)
    if collected is not None:
        collected.append(text)
        return
    named = repr(str(raw)) if isinstance(raw, str | Path) else f"given as {type(raw).__name__}"
    warnings.warn(f"The {noun} {named}: {text}.", stacklevel=4)


@contextmanager
def collecting_remarks() -> Iterator[list[str]]:
    """Yields a list that collects this thread's remarks instead of issuing warnings."""
    before = getattr(_of_thread, "collected", None)
    collected: list[str] = []
    _of_thread.collected = collected
    try:
        yield collected
    finally:
        _of_thread.collected = before


class Remarks:
    """Remarks on many inputs, counted.

    Args:
        found: for each remark, the number of inputs it was made on and the name of the first.
    """

    def __init__(self, found: dict[str, tuple[int, str]] | None = None) -> None:
        self.found = dict(found or {})

    def add(self, text: str, called: str) -> None:
        """Counts one more remark."""
        self.update({text: (1, called)})

    def update(self, found: dict[str, tuple[int, str]]) -> None:
        """Counts the remarks on other inputs, which come later."""
        for text, (more, called) in found.items():
            count, first = self.found.get(text, (0, called))
            self.found[text] = (count + more, first)

    def sentences(self, of: str = "") -> list[str]:
        """One warning per remark; ``of`` names what the inputs belong to: " of animals"."""
        sentences = []
        for text, (count, called) in self.found.items():
            first = f"number {called}" if called.isdigit() else called[:1].lower() + called[1:]
            named = f"the first is {first}" if count > 1 else first
            sentences.append(f"{count} input{'s'[: count - 1]}{of} ({named}): {text}.")
        return sentences
