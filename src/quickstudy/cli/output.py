"""Printing that works with any output: a terminal, a pipe, an old code page or a file.

Standard output holds the command's answer. If it no longer accepts output, the message that
something was saved goes to standard error, so that nobody believes it lost.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType


def make_streams_forgiving() -> None:
    """Writes characters that the output encoding lacks as escapes instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Prints what a command has done, on standard error if standard output fails."""
    if sys.stdout is None:
        complain(text)
        return
    try:
        print(text, flush=True)
    except (OSError, ValueError):  # a closed file raises ValueError
        drop(sys.stdout)
        complain(text)


def show(*things: RenderableType) -> None:
    """Prints tables and other renderables of the library rich on standard output.

    Raises:
        OSError: when standard output cannot be written; rich alone would end the process.
    """
    from rich.console import Console

    console = Console()
    for thing in things:
        with console.capture() as captured:
            console.print(thing, highlight=False)
        print(captured.get(), end="")


def print_json(value: Any) -> None:
    """Prints JSON, in ASCII if standard output cannot hold all of its characters."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)


def complain(text: str) -> None:
    """Prints to standard error, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def finished(code: int) -> int:
    """Flushes what is left to be printed; returns the exit code of the command."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)  # whoever read it has enough of it, as `| head` has
    except (OSError, ValueError) as error:
        drop(sys.stdout)
        complain(f"quickstudy: {output_failed(error)}")
        return code or 1
    return code


def is_of_output(error: OSError) -> bool:
    """Whether writing to standard output has failed, rather than to a file."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # tries again to write what could not be written
    except OSError as again:
        return again.errno == error.errno
    # Unbuffered output leaves nothing to try again; an error about a file would name it.
    return error.filename is None and error.args[:1] in {(errno.ENOSPC,), (errno.EDQUOT,)}


def output_failed(error: Exception) -> str:
    """The message for when standard output cannot be written."""
    from quickstudy.saving.files import reason_of  # not at the top: --help is to start quickly

    return f"standard output cannot be written: {reason_of(error)}."


def drop(stream: TextIO) -> None:
    """Discards what is left to be printed, about which Python would complain when it exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _OnStandardError(logging.Handler):
    """Prints messages as they are, on the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


_HANDLER = _OnStandardError()


def show_log() -> None:
    """Lets a command show what the library logs from INFO on."""
    logger = logging.getLogger("quickstudy")
    logger.setLevel(logging.INFO)
    logger.addHandler(_HANDLER)  # a second time changes nothing


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
