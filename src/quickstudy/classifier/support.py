"""The examples that a classifier has learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.classifier.parts import Parts
from quickstudy.classifier.raw import items, names_of
from quickstudy.classifier.reader import content_numbers, thumbnails, unread
from quickstudy.datasets.labels import as_labels, joined
from quickstudy.datasets.spelling import Labels, one_spelling
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import is_text
from quickstudy.inputs.text import read_text_file
from quickstudy.messages import warn_caller


@dataclass
class Support:
    """The examples.

    Args:
        kept: what the reader keeps of them, ``[N, *shape]``.
        labels: ``[N]``.
        contents: int64 ``[N]``, equal for equal inputs.
        names: N texts or paths; empty if there is none.
        pictures: uint8 ``[N, C, h, w]``, small; None for anything but images.
        given: for texts, a number that identifies each as it was given, if known.
    """

    kept: Tensor
    labels: Labels
    contents: Tensor
    names: list[str]
    pictures: Tensor | None = None
    given: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.given:  # examples loaded from a file
            self.given = [None] * len(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, numbers: Sequence[int]) -> Support:
        """Some of the examples, in the order of their numbers."""
        chosen = list(numbers)
        return Support(
            self.kept[chosen],
            self.labels[chosen],
            self.contents[chosen],
            [self.names[number] for number in chosen],
            None if self.pictures is None else self.pictures[chosen],
            [self.given[number] for number in chosen],
        )

    def joined(self, new: Support) -> Support:
        """These examples and then the new ones."""
        if self.kept.shape[1:] != new.kept.shape[1:]:
            raise InputError(
                f"The examples so far have the shape {list(self.kept.shape[1:])}, and the new ones "
                f"{list(new.kept.shape[1:])}."
            )
        pictures = None
        if self.pictures is not None and new.pictures is not None:
            pictures = torch.cat([self.pictures, new.pictures])
        return Support(
            torch.cat([self.kept, new.kept]),
            joined(self.labels, new.labels),
            torch.cat([self.contents, new.contents]),
            self.names + new.names,
            pictures,
            self.given + new.given,
        )


def read_examples(
    parts: Parts,
    raw: Any,
    labels: Labels,
    with_names: bool,
    names: Sequence[str] | None,
    known: Labels | None = None,
) -> Support:
    """Reads raw inputs and their labels.

    Args:
        parts: how inputs are read.
        raw: N inputs.
        labels: N labels.
        with_names: whether to keep the names and small pictures of the inputs.
        names: names of the N inputs; by default their texts and paths.
        known: labels that come before them, in whose spelling those that look the same are written.

    Raises:
        ValueError: when an input or a label cannot be used.
    """
    stored = parts.reader.decode(raw)
    labels = one_spelling(as_labels(labels, len(stored)), known)
    kept, contents = parts.reader.keep(stored), content_numbers(stored)
    _check_kept(parts, kept, stored, names_of(raw))
    given: list[int | None] = [None] * len(labels)
    if is_text(parts.reader.modality):
        given = list(map(_given, items(raw)))
    if not with_names:
        return Support(kept, labels, contents, [""] * len(labels), given=given)
    own = list(names or names_of(raw))
    return Support(kept, labels, contents, own, thumbnails(stored), given)


def _given(text: str | Path) -> int:
    """A number that identifies a text as it was given, before its tokenizer reads it."""
    given = read_text_file(text) if isinstance(text, Path) else text
    return int.from_bytes(hashlib.blake2b(given.encode(), digest_size=8).digest(), "big")


def called(names: Sequence[str], number: int) -> str:
    """The name of an input in messages."""
    name = names[number]
    return f"input {number}" + (f" ({name[:60]!r})" if name else "")


def _check_kept(parts: Parts, kept: Tensor, stored: Tensor, names: Sequence[str]) -> None:
    """Refuses vectors with NaN or infinity (ValueError); warns of texts without a known word."""
    if parts.reader.encoder is not None and (bad := unread(kept).nonzero()[:, 0]).numel():
        raise InputError(
            f"The encoder returns NaN or infinity for {called(names, int(bad[0]))} ({len(bad)} of "
            f"{len(kept)} inputs in all), so nothing can be learned from them. Check its weights, "
            "or leave these inputs out."
        )
    if blind := parts.reader.unread(stored).nonzero()[:, 0].tolist():
        warn_caller(
            f"The encoder cannot read {len(blind)} of {len(stored)} texts, such as "
            f"{called(names, blind[0])}: its tokenizer knows none of their words, so they all "
            "look alike to the encoder. Choose an encoder for their language; this classifier "
            "cannot tell such texts apart."
        )


def warn_of_contradictions(support: Support, targets: NDArray[np.int64]) -> None:
    """Warns of inputs that are given, or are the same to the encoder, under two classes."""
    contents = support.contents.tolist()
    first: dict[tuple[str, int], int] = {}
    twice: list[tuple[int, int]] = []
    alike: list[tuple[int, int]] = []
    seen = content_numbers(support.kept).tolist()
    for number, keys in enumerate(zip(contents, seen, strict=True)):
        others = [
            first.setdefault(key, number) for key in zip(("stored", "kept"), keys, strict=True)
        ]
        other = next((each for each in others if targets[each] != targets[number]), None)
        if other is not None:
            same = contents[other] == contents[number] and _given_alike(support, other, number)
            (twice if same else alike).append((other, number))
    if twice:
        warn_caller(
            f"{len(twice)} inputs are given under two classes: {_both(support, *twice[0])}, for "
            "example. Remove the wrong ones."
        )
    if alike:
        warn_caller(
            "The encoder cannot tell some inputs of different classes apart: "
            f"{_both(support, *alike[0])}, the first of {len(alike)}."
        )


def _given_alike(support: Support, one: int, other: int) -> bool:
    """Whether two inputs with equal stored contents were given as equal, as far as is known."""
    given = support.given[one], support.given[other]
    if None not in given:
        return given[0] == given[1]
    names = support.names[one], support.names[other]
    return given == (None, None) or "" in names or names[0] == names[1]


def _both(support: Support, one: int, other: int) -> str:
    labels = support.labels.tolist()
    both = [f"{support.names[n] or f'example {n}'!r} as {labels[n]!r}" for n in (one, other)]
    return " and ".join(both)
