"""Raw examples, and decoding many of them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inputs import Inputs, UnreadableError
from quickstudy.inputs.modalities import decoded
from quickstudy.inputs.remarks import Remarks, collecting_remarks
from quickstudy.progress import report

logger = logging.getLogger(__name__)

Unreadable = Literal["refuse", "skip"]
"""How to treat an example that cannot be decoded."""

ClassSplits = Mapping[str, Mapping[str, Sequence[str]]]
"""Class splits by name, each ``{split: class names}``: ``{"vinyals": {"train": [...]}}``."""

Said = tuple[str, ...]
"""The remarks made while decoding an input."""

_DECODED_AT_ONCE, _DECODED_BY_A_THREAD = 512, 16
_RAW_BYTES_AT_ONCE = 64 * 2**20
_WORTH_A_MESSAGE = 2000


@dataclass(frozen=True)
class RawExamples:
    """Examples as they were found, not yet decoded.

    Args:
        class_names: C different names.
        sizes: the number of examples of each class, at least 1.
        rows: gives the rows from one number on, in an order that stays. A row is a pair: what
            messages call the example, and the raw item that ``Inputs.decode`` takes, or a text's
            path. There are sum(sizes) of them.
        class_splits: the class splits that the data come with.
        classes: the number of each row's class, ``[sum(sizes)]``; None if the rows are sorted by
            class.
        notes: warnings for whenever these examples are loaded, in sentences.
        pooling: the warning about splits whose examples are pooled; empty if none are.
    """

    class_names: Sequence[str]
    sizes: Sequence[int]
    rows: Callable[[int], Iterable[tuple[str, Any]]]
    class_splits: ClassSplits
    classes: NDArray[np.integer[Any]] | None = None
    notes: Sequence[str] = ()
    pooling: str = ""

    def class_of_rows(self) -> NDArray[np.integer[Any]]:
        """The number of each row's class, ``[sum(sizes)]``."""
        if self.classes is not None:
            return self.classes
        return np.repeat(np.arange(len(self.sizes), dtype=np.int32), self.sizes)


def decoded_batches(
    rows: Iterable[tuple[str, Any]], inputs: Inputs, remarks: Remarks | None = None
) -> Iterator[list[tuple[str, Tensor | UnreadableError]]]:
    """Decodes in threads (decoders of images release the interpreter's lock), in order.

    Args:
        rows: pairs of the input's name in messages and the input.
        inputs: decodes them.
        remarks: collects the remarks of decoding; by default each becomes one warning at the end.
    """
    found = Remarks() if remarks is None else remarks

    def decode(part: list[tuple[str, Any]]) -> list[tuple[str, Tensor | UnreadableError, Said]]:
        results: list[tuple[str, Tensor | UnreadableError, Said]] = []
        with collecting_remarks() as said:
            for called, raw in part:
                result: Tensor | UnreadableError
                try:
                    result = decoded(inputs, raw)
                    if not isinstance(result, Tensor):
                        raise TypeError(
                            f"it gives a {type(result).__name__}, and a tensor is needed"
                        )
                except UnreadableError as error:
                    result = error
                except (MemoryError, ImportError):
                    raise
                except Exception as error:  # custom inputs can raise anything
                    result = _not_decoded(inputs, raw, error)
                results.append((called, result, tuple(said)))
                said.clear()
        return results

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _batches(rows):
            starts = range(0, len(batch), _DECODED_BY_A_THREAD)
            parts = [batch[start : start + _DECODED_BY_A_THREAD] for start in starts]
            results = [result for part in pool.map(decode, parts) for result in part]
            for called, _, said in results:
                for text in said:
                    found.add(text, called)
            yield [(called, result) for called, result, _ in results]
    if remarks is None:
        for sentence in found.sentences():
            warnings.warn(sentence, stacklevel=2)


def decoded_tensor(raw: Sequence[Any], inputs: Inputs, noun: str, first: int = 0) -> Tensor:
    """The stored tensors ``[N, *shape]`` of N raw items, at least one.

    Args:
        raw: the items.
        inputs: decodes them.
        noun: what messages call an item, before its number.
        first: number of the first item.

    Raises:
        UnreadableError: when one cannot be decoded.
        ValueError: when they are decoded to different shapes.
    """
    tensors: list[Tensor] = []
    rows = ((str(number), each) for number, each in enumerate(raw, first))
    for batch in decoded_batches(rows, inputs):
        for called, stored in batch:
            if isinstance(stored, UnreadableError):
                raise UnreadableError(f"{noun} {called} cannot be used. {stored}") from stored
            tensors.append(stored)
        report("reading examples", len(tensors), len(raw))
    shapes = {tuple(each.shape) for each in tensors}
    if len(shapes) > 1:
        raise InputError(
            f"The decoded examples have different shapes: {sorted(shapes)[:3]}; "
            f"{type(inputs).__name__}.decode must return one shape for all."
        )
    return torch.stack(tensors)


def _not_decoded(inputs: Inputs, raw: Any, error: Exception) -> UnreadableError:
    given = repr(str(raw)) if isinstance(raw, str | Path) else f"a {type(raw).__name__}"
    found = UnreadableError(
        f"{type(inputs).__name__}.decode fails on {given[:200]}: "
        f"{type(error).__name__}: {str(error).rstrip('.')}."
    )
    found.__cause__ = error
    return found


def _batches(rows: Iterable[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    """Rows in batches of bounded number and size."""
    batch: list[tuple[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row[1]) if isinstance(row[1], bytes | str) else 0
        if len(batch) == _DECODED_AT_ONCE or size >= _RAW_BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows on stderr that examples are being decoded: a bar on a terminal, otherwise one line.

    Args:
        name: name of the data.
        total: number of examples.
        done: number of examples that were decoded before.

    Yields:
        A function to call with the number of further examples that are done.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(f"Decoding {name}", total=total, completed=done)
            yield lambda more: bar.advance(task, more)
    else:
        if total >= _WORTH_A_MESSAGE:
            before = f" ({done} are done)" if done else ""
            logger.info("Decoding %d examples of %s, once%s ...", total, name, before)
        yield lambda more: None
