"""What is said of a raw thing that cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class UnreadableError(ValueError):
    """A raw input cannot be decoded; the message names it."""


@contextmanager
def naming(raw: Any, noun: str, words: Callable[[Exception], object] = str) -> Iterator[None]:
    """Makes of what goes wrong inside an ``UnreadableError`` that names the thing.

    Args:
        raw: the thing: a path, or what is named by its type.
        noun: what messages call such a thing.
        words: what they say of an error.
    """
    try:
        yield
    except MemoryError:
        raise
    # Damaged files make decoders raise nearly anything (struct.error, EOFError, ...).
    except Exception as error:
        named = repr(str(raw)) if isinstance(raw, str | Path) else f"given as {type(raw).__name__}"
        raise UnreadableError(f"The {noun} {named} cannot be read: {words(error)}") from error
