"""Episodes as a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.episodes.episode import Episode, Examples

Count = int | Sequence[int]
"""A fixed number, or an inclusive ``(low, high)`` range to draw it from."""

TASKS_AT_ONCE = 256
"""Tasks whose indices are drawn at once; the arrays of more would leave a processor's cache."""

LONGEST_SHUFFLED = 1024
"""The longest array that is shuffled as it is; of longer ones only the places that matter."""


class ClassSource(Protocol):
    """What a sampler needs of a data set; ``datasets.ClassDataset`` is one."""

    @property
    def sizes(self) -> Tensor: ...
    @property
    def class_names(self) -> Sequence[str]: ...
    def gather(self, classes: Tensor, positions: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class EpisodeIndices:
    """Which examples make up a batch of tasks.

    Args:
        classes: ``[T, ways]`` int64, the drawn classes; way k of task t is ``classes[t, k]``.
        support: ``[T, ways, shots]`` int64, positions inside the class.
        query: ``[T, ways, queries]`` int64, positions inside the class, none of them in support.
    """

    classes: Tensor
    support: Tensor
    query: Tensor

    def __getitem__(self, tasks: slice) -> EpisodeIndices:
        return EpisodeIndices(self.classes[tasks], self.support[tasks], self.query[tasks])


def distinct_integers(uniform: NDArray[np.float64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draws distinct integers in random order: a Fisher-Yates shuffle stopped after n swaps.

    Args:
        uniform: ``[*rows, n]`` independent numbers in [0, 1).
        below: ``[*rows]``, each at least n: the range to draw from.

    Returns:
        ``[*rows, n]``: n different integers in ``0..below-1``, every ordered choice equally likely.
    """
    n = uniform.shape[-1]
    # All rows take a step at once, so the rows lie next to each other.
    steps = np.arange(n)[:, None]
    numbers = np.ascontiguousarray(uniform.reshape(-1, n).T)
    # Step j swaps places j and places[j], a place among those not yet drawn.
    places = steps + (numbers * (below.reshape(-1) - steps)).astype(np.int64)
    rows = places.shape[1]
    if below.max(initial=0) <= LONGEST_SHUFFLED:
        array = np.repeat(np.arange(below.max(initial=0)), rows).reshape(-1, rows)
    else:
        # Of a long array only the first n places and those swapped with them are kept.
        array = np.concatenate([np.broadcast_to(steps, places.shape), places])
        first = np.stack([(places[: j + 1] == places[j]).argmax(0) for j in range(n)])
        places = np.where(places < n, places, n + first)
    cells = places * rows + np.arange(rows)
    flat = array.reshape(-1)
    drawn = np.empty_like(places)
    for j in range(n):
        # Cells are in range by construction; "clip" spares numpy a copy that it makes to check.
        np.take(flat, cells[j], out=drawn[j], mode="clip")
        flat[cells[j]] = array[j]
    return np.ascontiguousarray(drawn.T).reshape(uniform.shape)


class EpisodeSampler:
    """Draws episodes from a data set, each a pure function of (seed, index).

    ``sampler.episode(i)`` is the same tensor in any process, after any history. Task number n is
    made from its own block of a counter-based generator (Philox), so episodes of 8 tasks are the
    same tasks, eight at a time, that episodes of 1 task are, as long as ways and shots are fixed.

    Args:
        dataset: where classes and examples come from.
        ways: classes in a task, or a range ``(low, high)``, both inclusive.
        shots: support examples a class, or a range.
        queries: query examples a class.
        tasks: tasks in an episode; they share their ways and shots.
        seed: of the whole stream of episodes.

    Raises:
        ValueError: when there are too few classes, or a class is too small (it is named).
    """

    def __init__(
        self,
        dataset: ClassSource,
        ways: Count = 5,
        shots: Count = 1,
        queries: int = 15,
        tasks: int = 1,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.ways = _as_range(ways, "ways", least=1)
        self.shots = _as_range(shots, "shots", least=1)
        self.queries = _as_number(queries, "queries", least=1)
        self.tasks = _as_number(tasks, "tasks", least=1)
        if not 0 <= seed < 2**64:
            raise ValueError(f"The seed is {seed}; it must be at least 0 and less than 2**64.")
        self.seed = seed
        self._sizes = dataset.sizes.numpy().astype(np.int64)
        self._check_sizes()

    def _check_sizes(self) -> None:
        classes = len(self._sizes)
        if self.ways[1] > classes:
            raise ValueError(
                f"Tasks of {self.ways[1]} ways were asked for, but the data has only {classes} "
                "classes. Ask for fewer ways, or take more classes (another split?)."
            )
        needed = self.shots[1] + self.queries
        smallest = int(self._sizes.argmin())
        if self._sizes[smallest] < needed:
            small = int((self._sizes < needed).sum())
            raise ValueError(
                f"Class {self.dataset.class_names[smallest]!r} has {self._sizes[smallest]} "
                f"examples, but {self.shots[1]} shots + {self.queries} queries = {needed} were "
                f"asked for ({small} of {classes} classes are too small). Ask for fewer shots or "
                "queries, or leave the small classes out (`dataset.with_at_least(n)`)."
            )

    def counts(self, index: int) -> tuple[int, int]:
        """The (ways, shots) of episode ``index``."""
        fixed = self.ways[0] == self.ways[1] and self.shots[0] == self.shots[1]
        first, second = (
            (0.0, 0.0) if fixed else self._uniform(stream=1, start=index, shape=(1, 2))[0]
        )
        return _draw(self.ways, first), _draw(self.shots, second)

    def _uniform(self, stream: int, start: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Rows start..start+shape[0]-1 of an endless table of uniform numbers in [0, 1)."""
        rows, columns = shape
        blocks = -(-columns // 4)  # Philox4x64 makes four numbers for each value of its counter
        generator = np.random.Philox(key=np.array([self.seed, stream], dtype=np.uint64))
        generator.advance(start * blocks)
        raw = generator.random_raw(rows * blocks * 4).reshape(rows, blocks * 4)[:, :columns]
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def indices(self, index: int) -> EpisodeIndices:
        """Which examples make up episode ``index``; nothing is read from the data."""
        if index < 0:
            raise ValueError(f"Episode index {index} is negative; episodes count from 0.")
        ways, shots = self.counts(index)
        classes = np.empty((self.tasks, ways), np.int64)
        positions = np.empty((self.tasks, ways, shots + self.queries), np.int64)
        for start in range(0, self.tasks, TASKS_AT_ONCE):
            part = slice(start, start + TASKS_AT_ONCE)
            self._draw_tasks(index * self.tasks + start, classes[part], positions[part])
        return EpisodeIndices(
            torch.from_numpy(classes),
            torch.from_numpy(positions[:, :, :shots].copy()),
            torch.from_numpy(positions[:, :, shots:].copy()),
        )

    def _draw_tasks(
        self, first: int, classes: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> None:
        """Fills in the classes and positions of tasks number ``first`` and those after it."""
        tasks, ways, picks = positions.shape
        # A task's row has the same length whatever ways and shots were drawn for its episode.
        row = self.ways[1] * (1 + self.shots[1] + self.queries)
        uniform = self._uniform(stream=0, start=first, shape=(tasks, row))
        of_classes, of_examples = uniform[:, :ways], uniform[:, ways : ways + ways * picks]
        classes[:] = distinct_integers(of_classes, np.full(tasks, len(self._sizes)))
        positions[:] = distinct_integers(
            of_examples.reshape(tasks, ways, picks), self._sizes[classes]
        )

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``: T tasks, or those of them that ``tasks`` picks (a rank's share)."""
        return self.read(self.indices(index)[slice(None) if tasks is None else tasks])

    def read(self, chosen: EpisodeIndices) -> Episode:
        """The episode of the examples that ``chosen`` names."""
        return Episode(
            support=self._examples(chosen.classes, chosen.support),
            query=self._examples(chosen.classes, chosen.query),
            ways=chosen.classes.shape[1],
        )

    def _examples(self, classes: Tensor, positions: Tensor) -> Examples:
        tasks, ways, each = positions.shape
        inputs = self.dataset.gather(classes[:, :, None].expand_as(positions), positions)
        targets = torch.arange(ways, device=inputs.device).repeat_interleave(each)
        return Examples(inputs.flatten(1, 2), targets.expand(tasks, -1))


def _as_range(count: Count, name: str, least: int) -> tuple[int, int]:
    bounds = (count, count) if isinstance(count, int) else tuple(count)
    if len(bounds) != 2 or not least <= bounds[0] <= bounds[1]:
        raise ValueError(
            f"{name} is {count}; it must be a number of at least {least}, or a range (low, high) "
            "with low <= high."
        )
    return bounds[0], bounds[1]


def _as_number(count: int, name: str, least: int) -> int:
    if not isinstance(count, int) or count < least:
        raise ValueError(f"{name} is {count}; it must be a number of at least {least}.")
    return count


def _draw(bounds: tuple[int, int], uniform: float) -> int:
    low, high = bounds
    return low + int(uniform * (high - low + 1))
