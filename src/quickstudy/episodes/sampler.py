"""Episodes as a pure function of (seed, index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.counts import Count, as_whole, whole_number, whole_range
from quickstudy.deprecated import once_positional
from quickstudy.episodes.episode import Episode, Examples, unchecked_episode
from quickstudy.episodes.imbalance import DRAWS_A_CLASS, apportioned, dirichlet_shares
from quickstudy.errors import InputError

QueryBalance = Literal["balanced", "dirichlet"]
"""How the queries of a task are spread over its classes; see :class:`EpisodeSampler`."""

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
        query_ways: ``[T, ways, queries]`` int64, the way that each query is of; none where it is
            that of its row. With unbalanced queries rows mean nothing.
    """

    classes: Tensor
    support: Tensor
    query: Tensor
    query_ways: Tensor | None = None

    def __getitem__(self, tasks: slice) -> EpisodeIndices:
        ways = None if self.query_ways is None else self.query_ways[tasks]
        return EpisodeIndices(self.classes[tasks], self.support[tasks], self.query[tasks], ways)

    @property
    def support_classes(self) -> Tensor:
        """``[T, ways, shots]`` int64, the class that each support example is of."""
        return self.classes[:, :, None].expand_as(self.support)

    @property
    def query_classes(self) -> Tensor:
        """``[T, ways, queries]`` int64, the class that each query is of."""
        if self.query_ways is None:
            return self.classes[:, :, None].expand_as(self.query)
        return self.classes.gather(1, self.query_ways.flatten(1)).view_as(self.query)


def distinct_integers(uniform: NDArray[np.float64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draws distinct integers in random order: a Fisher-Yates shuffle stopped after n swaps.

    Args:
        uniform: ``[*rows, n]`` independent numbers in [0, 1).
        below: ``[*rows]``, the range to draw from.

    Returns:
        ``[*rows, n]``: n different integers in ``0..below-1``, every ordered choice equally likely.
        Where ``below`` is less than n they are the first ``below``, and ``below..n-1`` follow.
    """
    n = uniform.shape[-1]
    # All rows take a step at once, so the rows lie next to each other.
    steps = np.arange(n)[:, None]
    numbers = np.ascontiguousarray(uniform.reshape(-1, n).T)
    # Step j swaps places j and places[j], a place among those not yet drawn.
    left = np.maximum(below.reshape(-1) - steps, 0)
    places = steps + (numbers * left).astype(np.int64)
    rows = places.shape[1]
    longest = below.max(initial=n)
    if longest <= LONGEST_SHUFFLED:
        array = np.repeat(np.arange(longest), rows).reshape(-1, rows)
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

    ``sampler.episode(i)`` is the same tensor in any process, whatever was drawn before. Task n is
    made from its own block of a counter-based generator (Philox). If ways and shots are fixed,
    episodes of 8 tasks therefore hold the same tasks as eight episodes of 1 task.

    Args:
        dataset: where classes and examples come from.
        ways: number of classes in a task, or an inclusive range ``(low, high)``.
        shots: number of support examples per class, or an inclusive range.
        queries: number of query examples per class.
        tasks: number of tasks per episode; they share their ways and shots.
        seed: random seed of the stream of episodes.
        query_balance: "balanced" gives each class ``queries`` queries. "dirichlet" gives a task
            ways x ``queries`` queries in total, divided among its classes by a draw from a
            Dirichlet distribution (α = 2), so that some classes have many and others few or none:
            Veilleux, Boudiaf, Piantanida, Ben Ayed, "Realistic Evaluation of Transductive Few-Shot
            Learning", NeurIPS 2021, section 3. A class provides at most the examples that it has
            beside its shots; the other classes make up for the rest, by their shares. Classes,
            support and each class's first queries equal those of balanced tasks of the same seed.

    Raises:
        ValueError: if there are too few classes, or a class is too small; the message names it.

    Example:
        >>> import torch
        >>> from quickstudy import ClassDataset, EpisodeSampler
        >>> from quickstudy.inputs import FeatureInputs
        >>> vectors = torch.arange(60.0).view(20, 3)
        >>> data = ClassDataset.from_arrays(vectors, [n % 4 for n in range(20)], FeatureInputs(3))
        >>> sampler = EpisodeSampler(data, ways=2, shots=1, queries=3, seed=7)
        >>> episode = sampler.episode(10)
        >>> episode.support.inputs.shape, episode.query.inputs.shape
        (torch.Size([1, 2, 3]), torch.Size([1, 6, 3]))
        >>> torch.equal(episode.query.inputs, sampler.episode(10).query.inputs)
        True
    """

    @once_positional("tasks", "seed", "query_balance")
    def __init__(
        self,
        dataset: ClassSource,
        ways: Count = 5,
        shots: Count = 1,
        queries: int = 15,
        *,
        tasks: int = 1,
        seed: int = 0,
        query_balance: QueryBalance = "balanced",
    ) -> None:
        self.dataset = dataset
        self.ways = whole_range(ways, "ways", least=1)
        self.shots = whole_range(shots, "shots", least=1)
        self.queries = whole_number(queries, "queries", least=1)
        self.tasks = whole_number(tasks, "tasks", least=1)
        number = as_whole(seed)
        if number is None or not 0 <= number < 2**64:
            raise InputError(f"The seed is {seed}; it must be at least 0 and less than 2**64.")
        self.seed = number
        if query_balance not in get_args(QueryBalance):
            raise InputError(
                f"The query_balance {query_balance!r} is unknown; choose balanced or dirichlet."
            )
        self.query_balance = query_balance
        self._sizes = dataset.sizes.numpy().astype(np.int64)
        self._check_sizes()

    def _check_sizes(self) -> None:
        classes = len(self._sizes)
        if self.ways[1] > classes:
            raise InputError(
                f"Tasks of {self.ways[1]} ways were asked for, but the data has only {classes} "
                "classes. Ask for fewer ways, or take more classes (another split?)."
            )
        needed = self.shots[1] + self.queries
        smallest = int(self._sizes.argmin())
        if self._sizes[smallest] < needed:
            small = int((self._sizes < needed).sum())
            raise InputError(
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
            raise InputError(f"Episode index {index} is negative; episodes count from 0.")
        ways, shots = self.counts(index)
        classes = np.empty((self.tasks, ways), np.int64)
        positions = np.empty((self.tasks, ways, shots + self.queries), np.int64)
        uneven = self.query_balance == "dirichlet"
        query_ways = np.empty((self.tasks, ways, self.queries), np.int64) if uneven else None
        for start in range(0, self.tasks, TASKS_AT_ONCE):
            part = slice(start, start + TASKS_AT_ONCE)
            of_queries = None if query_ways is None else query_ways[part]
            self._draw_tasks(index * self.tasks + start, classes[part], positions[part], of_queries)
        return EpisodeIndices(
            torch.from_numpy(classes),
            torch.from_numpy(positions[:, :, :shots].copy()),
            torch.from_numpy(positions[:, :, shots:].copy()),
            None if query_ways is None else torch.from_numpy(query_ways),
        )

    def _draw_tasks(
        self,
        first: int,
        classes: NDArray[np.int64],
        positions: NDArray[np.int64],
        query_ways: NDArray[np.int64] | None,
    ) -> None:
        """Fills in the classes and positions of tasks number ``first`` and those after it.

        And the ways of their queries, where these are not those of their rows.
        """
        tasks, ways, picks = positions.shape
        # A task's row has the same length whatever ways and shots were drawn for its episode.
        row = self.ways[1] * (1 + self.shots[1] + self.queries)
        uniform = self._uniform(stream=0, start=first, shape=(tasks, row))
        of_classes, of_examples = uniform[:, :ways], uniform[:, ways : ways + ways * picks]
        classes[:] = distinct_integers(of_classes, np.full(tasks, len(self._sizes)))
        of_examples = of_examples.reshape(tasks, ways, picks)
        sizes = self._sizes[classes]
        if query_ways is None:
            positions[:] = distinct_integers(of_examples, sizes)
            return
        shots = picks - self.queries
        # Beside the numbers of balanced tasks: two for a class's share, and one for each query that
        # it may have more than there.
        row = self.ways[1] * (DRAWS_A_CLASS + (self.ways[1] - 1) * self.queries)
        uniform = self._uniform(stream=2, start=first, shape=(tasks, row))
        of_shares, of_more = np.split(uniform, [ways * DRAWS_A_CLASS], axis=1)
        shares = dirichlet_shares(of_shares.reshape(tasks, ways, DRAWS_A_CLASS))
        total = ways * self.queries
        counts = apportioned(shares, total, sizes - shots)
        of_more = of_more[:, : ways * (total - self.queries)].reshape(tasks, ways, -1)
        most = max(0, int(counts.max()) - self.queries)
        drawn = distinct_integers(
            np.concatenate([of_examples, of_more[:, :, :most]], axis=2), sizes
        )
        # The queries of the first class, then those of the second: which they are, and their place.
        way = np.repeat(np.tile(np.arange(ways), tasks), counts.reshape(-1)).reshape(tasks, total)
        before = np.take_along_axis(counts.cumsum(1) - counts, way, axis=1)
        place = shots + np.arange(total) - before
        task = np.arange(tasks)[:, None]
        positions[:, :, :shots] = drawn[:, :, :shots]
        positions[:, :, shots:] = drawn[task, way, place].reshape(tasks, ways, -1)
        query_ways[:] = way.reshape(tasks, ways, -1)

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``: T tasks, or those of them that ``tasks`` picks (a rank's share)."""
        return self.read(self.indices(index)[slice(None) if tasks is None else tasks])

    def read(self, chosen: EpisodeIndices) -> Episode:
        """The episode of the examples that ``chosen`` names."""
        return unchecked_episode(
            support=self._examples(chosen.support_classes, chosen.support, None),
            query=self._examples(chosen.query_classes, chosen.query, chosen.query_ways),
            ways=chosen.classes.shape[1],
        )

    def _examples(self, classes: Tensor, positions: Tensor, targets_of: Tensor | None) -> Examples:
        tasks, ways, each = positions.shape
        inputs = self.dataset.gather(classes, positions)
        if targets_of is None:
            targets = torch.arange(ways, device=inputs.device).repeat_interleave(each)
            targets = targets.expand(tasks, -1)
        else:
            targets = targets_of.flatten(1).to(inputs.device)
        return Examples(inputs.flatten(1, 2), targets)


def _draw(bounds: tuple[int, int], uniform: float) -> int:
    low, high = bounds
    return low + int(uniform * (high - low + 1))
