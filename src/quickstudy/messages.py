"""Errors of libraries in our own messages."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error, as a sentence."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
