"""Errors of libraries in our own messages."""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """The first line of the error at the bottom, as a sentence: libraries wrap what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
