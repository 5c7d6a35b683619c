"""What messages of errors have in common."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable

from quickstudy.errors import InputError


class UsageError(InputError):
    """The command line is wrong; the command ends with exit code 2."""


def reason(error: BaseException) -> str:
    """The first line of the error at the bottom, as a sentence: libraries wrap what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def did_you_mean(
    name: str, known: Iterable[str], show: Callable[[str], str] = repr, most: int = 1
) -> str:
    """The sentence, after a space, that names what is known under a similar name; or nothing."""
    import difflib  # not before something was misspelt

    near = difflib.get_close_matches(name, list(known), n=most)
    return f" Did you mean {' or '.join(map(show, near))}?" if near else ""


def warn_caller(message: str) -> None:
    """Issues a warning that points at the line outside this package that led to it."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
        "quickstudy."
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
