"""Dividing the classes of a data set into train, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quickstudy.counts import whole_number
from quickstudy.errors import InputError


def published(
    called: str, known: Mapping[str, Mapping[str, Sequence[str]]], name: str
) -> Mapping[str, Sequence[str]]:
    """The published class splits with a name.

    Raises:
        ValueError: when there are none of this name.
    """
    if called not in known:
        raise InputError(
            f"{name} has no class splits named {called!r}; it has: {', '.join(known) or 'none'}. "
            "Fractions such as 0.6,0.2,0.2 divide the classes at random."
        )
    return known[called]


def members(
    groups: Sequence[str],
    splits: Mapping[str, Sequence[str]],
    class_splits: str | Sequence[float],
    name: str,
) -> dict[str, list[int]]:
    """The numbers of the classes in each split.

    Args:
        groups: the group of each class.
        splits: the groups in each split.
        class_splits: where the splits come from, for messages.
        name: the name of the data in messages.

    Raises:
        ValueError: when a split has no class.
    """
    of_group: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        of_group.setdefault(group, []).append(number)
    found = {}
    for split, names in splits.items():
        # Classes that were left out by a selection before are missing from their split too.
        found[split] = [number for each in names for number in of_group.get(each, [])]
        if not found[split]:
            raise InputError(
                f"The split {split!r} of {class_splits!r} has no class of {name}. Was a split of "
                "the data selected before? Fractions can divide it further."
            )
    return found


def by_fractions(
    groups: list[str], fractions: Sequence[float], seed: int, name: str
) -> dict[str, list[str]]:
    """Groups of classes drawn at random into train and test, or train, validation and test.

    Args:
        groups: the names of the groups, sorted; classes of one group stay together.
        fractions: two or three numbers that sum to 1.
        seed: random seed.
        name: the name of the data in messages.

    Raises:
        ValueError: when the fractions are no such numbers, or there are too few groups.
    """
    seed = whole_number(seed, "seed")
    splits = {2: ("train", "test"), 3: ("train", "validation", "test")}.get(len(fractions))
    if splits is None or not all(0 < f < 1 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(
            f"The split {tuple(fractions)} is not two (train, test) or three (train, validation, "
            "test) positive fractions that sum to 1."
        )
    if len(groups) < len(splits):
        raise InputError(f"{name} has {len(groups)} classes, too few to split in {len(splits)}.")
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(groups))
    ends = np.round(np.cumsum(fractions) * len(groups)).astype(int)
    # Rounding must leave no split empty.
    for i in range(len(splits)):
        least = (ends[i - 1] if i else 0) + 1
        ends[i] = min(max(ends[i], least), len(groups) - (len(splits) - 1 - i))
    pieces = np.split(order, ends[:-1])
    return {
        split: [groups[i] for i in sorted(piece.tolist())]
        for split, piece in zip(splits, pieces, strict=True)
    }
