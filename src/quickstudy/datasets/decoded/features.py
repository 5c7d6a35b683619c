"""Features: what an encoder makes of examples, computed once to be used in many episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import check_finite, encode_batches
from quickstudy.errors import InputError

EXAMPLES_AT_ONCE = 2**8
"""Examples encoded at once."""


class Readable(Protocol):
    """Anything whose examples are read by class and position."""

    def gather(self, classes: Tensor, positions: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Embedding:
    """The features of n examples.

    Args:
        features: ``[n, D]``, in the encoder's precision.
        seconds: time spent in the encoder, without reading the examples.
    """

    features: Tensor
    seconds: float


class TooLargeError(InputError):
    """The features need more memory than was allowed."""


def every_example(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The class and the position inside it of each example, both ``[n]``, of classes ``[C]``."""
    starts = torch.cumsum(sizes, 0) - sizes
    classes = torch.arange(len(sizes)).repeat_interleave(sizes)
    return classes, torch.arange(len(classes)) - starts[classes]


def embed_examples(
    encoder: nn.Module,
    source: Readable,
    classes: Tensor,
    positions: Tensor,
    device: torch.device | str,
    most_bytes: int | None = None,
    embedded: Callable[[int, int], None] | None = None,
) -> Embedding:
    """Encodes examples in batches, in evaluation mode and without gradients.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; left as it was.
        source: where the examples are read.
        classes: ``[n]`` int64, the examples' classes.
        positions: ``[n]`` int64, their positions inside the class.
        device: device of the encoder and of the features.
        most_bytes: most memory that the features can take.
        embedded: called with (encoded so far, n) after each batch.

    Raises:
        TooLargeError: if they would take more; raised after the first batch.
    """
    features = torch.empty(0)
    seconds = 0.0
    parts = list(batches(len(classes)))
    inputs = (source.gather(classes[part], positions[part]).to(device) for part in parts)
    for part, (vectors, took) in zip(parts, encode_batches(encoder, inputs), strict=True):
        seconds += took
        if part.start == 0:
            needed = vectors[0].nbytes * len(classes)
            if most_bytes is not None and needed > most_bytes:
                raise TooLargeError(
                    f"The features of {len(classes)} examples, {vectors.shape[1]} numbers "
                    f"each, take {needed} bytes; at most {most_bytes} are allowed."
                )
            features = vectors.new_empty(len(classes), vectors.shape[1])
        features[part] = vectors
        if embedded is not None:
            embedded(part.stop, len(classes))
    if len(classes):
        check_finite(encoder, features)
    return Embedding(features, seconds)


def batches(examples: int) -> Iterator[slice]:
    """Covers so many examples, at most ``EXAMPLES_AT_ONCE`` at a time, by powers of two.

    For each number of images that it meets, PyTorch's library of convolutions compiles kernels, and
    keeps a thousand of them.
    """
    start = 0
    while start < examples:
        largest = 1 << ((examples - start).bit_length() - 1)
        yield slice(start, start := start + min(largest, EXAMPLES_AT_ONCE))
