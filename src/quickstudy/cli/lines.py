"""Lines of standard input, as they come."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator

from quickstudy.errors import InputError

_BYTES_AT_ONCE = 2**16


def lines_of_input() -> Iterator[str]:
    """The lines of standard input, without the byte-order mark that some editors put first.

    Raises:
        InputError: when the lines are not in the expected encoding.
    """
    for lines in lines_as_they_come():
        yield from lines


def lines_as_they_come() -> Iterator[list[str]]:
    """Yields the lines of standard input, at a time as many as are available without waiting.

    Raises:
        InputError: when the lines are not in the expected encoding.
    """
    stream = sys.stdin
    if stream is None:  # closed
        return
    buffer = getattr(stream, "buffer", None)
    try:
        if buffer is None:  # replaced by something that holds text
            text = stream.read().removeprefix("\ufeff")
            yield text.removesuffix("\n").split("\n") if text else []
            return
        decoder = codecs.getincrementaldecoder(stream.encoding)(stream.errors or "strict")
        rest, first = "", True
        while content := buffer.read1(_BYTES_AT_ONCE):
            rest += decoder.decode(content)
            if first and rest:
                rest, first = rest.removeprefix("\ufeff"), False
            *lines, rest = rest.split("\n")
            if lines:
                yield lines
        rest += decoder.decode(b"", final=True)
        if rest:
            yield [rest]
    except UnicodeDecodeError as error:
        raise InputError(
            f"Standard input is not text in {error.encoding}: the byte {error.object[error.start]} "
            "cannot be decoded. Convert it to UTF-8 (iconv -t UTF-8)."
        ) from error
