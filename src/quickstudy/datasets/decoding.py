"""Raw examples, and decoding many of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from quickstudy.inputs import Inputs, UnreadableError

Unreadable = Literal["refuse", "skip"]
"""What to do about an example that cannot be decoded."""

Splits = Mapping[str, Mapping[str, Sequence[str]]]
"""Divisions of the classes by name, each ``{part: class names}``."""

_DECODED_AT_ONCE, _DECODED_BY_A_THREAD = 1024, 16
_WORTH_A_MESSAGE = 2000
_LONGEST_TEXT_BYTES = 2**24


@dataclass(frozen=True)
class RawExamples:
    """Examples as they were found, not yet decoded.

    Args:
        class_names: C different names.
        sizes: the number of examples of each class, at least 1.
        rows: sum(sizes) pairs, class after class: what messages call the example, and the raw
            thing that ``Inputs.decode`` takes, or a text's path.
        splits: divisions of the classes that the data come with.
    """

    class_names: Sequence[str]
    sizes: Sequence[int]
    rows: Iterable[tuple[str, Any]]
    splits: Splits


def decoded_batches(
    rows: Iterable[tuple[str, Any]], inputs: Inputs
) -> Iterator[list[tuple[str, Tensor | UnreadableError]]]:
    """Decodes in threads (decoders of images release the interpreter's lock), in order."""

    def decode(part: list[tuple[str, Any]]) -> list[tuple[str, Tensor | UnreadableError]]:
        results: list[tuple[str, Tensor | UnreadableError]] = []
        for called, raw in part:
            try:
                is_text_file = inputs.kind == "text" and isinstance(raw, Path)
                thing = read_text_file(raw) if is_text_file else raw
                results.append((called, inputs.decode(thing)))
            except UnreadableError as error:
                results.append((called, error))
        return results

    remaining = iter(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(remaining, _DECODED_AT_ONCE)):
            starts = range(0, len(batch), _DECODED_BY_A_THREAD)
            parts = [batch[start : start + _DECODED_BY_A_THREAD] for start in starts]
            yield [result for part in pool.map(decode, parts) for result in part]


def read_text_file(path: Path) -> str:
    """The text in a file.

    Raises:
        UnreadableError: it cannot be read, is not in UTF-8, or is longer than 16 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_TEXT_BYTES + 1)
        if len(content) <= _LONGEST_TEXT_BYTES:
            return content.decode("utf-8-sig")  # editors may write a mark at the start of a file
        problem = f"it is longer than {_LONGEST_TEXT_BYTES} bytes"
    except OSError as error:
        problem = str(error.strerror or error)
    except UnicodeDecodeError as error:
        problem = f"it is not in UTF-8 ({error}); save it in UTF-8"
    raise UnreadableError(f"The text file {str(path)!r} cannot be read: {problem}.")


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Says on stderr that examples are being decoded: a bar on a terminal, else one line.

    Yields:
        A function that is told how many more examples are done.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(f"Decoding {name}", total=total)
            yield lambda more: bar.advance(task, more)
    else:
        if total >= _WORTH_A_MESSAGE:
            print(f"Decoding {total} examples of {name}, once ...", file=sys.stderr)
        yield lambda more: None
