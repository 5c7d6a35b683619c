"""Raw examples, and decoding many of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from torch import Tensor

from quickstudy.inputs import Inputs, UnreadableError

Unreadable = Literal["refuse", "skip"]
"""What to do about an example that cannot be decoded."""

Splits = Mapping[str, Mapping[str, Sequence[str]]]
"""Divisions of the classes by name, each ``{part: class names}``."""

_DECODED_AT_ONCE, _DECODED_BY_A_THREAD = 1024, 16
_WORTH_A_MESSAGE = 2000


@dataclass(frozen=True)
class RawExamples:
    """Examples as they were found, not yet decoded.

    Args:
        class_names: C different names.
        sizes: the number of examples of each class, at least 1.
        rows: sum(sizes) pairs, class after class: what messages call the example, and the raw
            thing that ``Inputs.decode`` takes.
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
                results.append((called, inputs.decode(raw)))
            except UnreadableError as error:
                results.append((called, error))
        return results

    remaining = iter(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(remaining, _DECODED_AT_ONCE)):
            starts = range(0, len(batch), _DECODED_BY_A_THREAD)
            parts = [batch[start : start + _DECODED_BY_A_THREAD] for start in starts]
            yield [result for part in pool.map(decode, parts) for result in part]


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
