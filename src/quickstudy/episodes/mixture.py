"""Tasks of several data sets, and of several ways and shots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from quickstudy.counts import whole_number
from quickstudy.episodes.episode import Episode, TaskSource
from quickstudy.episodes.sampler import ClassSource, EpisodeSampler
from quickstudy.episodes.sinusoids import Sinusoids
from quickstudy.episodes.source import as_source
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs


class DescribedClasses(ClassSource, Protocol):
    """Classes that say how their inputs were made; ``datasets.ClassDataset`` is one."""

    @property
    def inputs(self) -> Inputs: ...


class Mixture:
    """Each episode is one of a source drawn at random; a function of (seed, index) alone.

    Tasks of different shapes share no tensor, so all tasks of an episode are of one source. Inputs
    must be of one kind and shape: embed data sets that are not (``ClassDataset.embed``).

    Args:
        sources: samplers or other sources, all with the same number of tasks in an episode.
        weights: how often each is drawn, relative to the others; by default all equally.
        seed: random seed of the drawing; the sources have seeds of their own.

    Raises:
        ValueError: when there are no sources, or they do not fit together.
    """

    def __init__(
        self,
        sources: Sequence[EpisodeSampler | TaskSource],
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not sources:
            raise InputError("A mixture needs at least one source of tasks; none was given.")
        weights = [1.0] * len(sources) if weights is None else list(weights)
        if len(weights) != len(sources) or min(weights) < 0 or not sum(weights) > 0:
            raise InputError(
                f"The weights {weights} do not fit {len(sources)} sources: give a number of 0 or "
                "more for each, not all 0."
            )
        # Sources of this package are known to do what they state.
        sources = [
            each if isinstance(each, EpisodeSampler | Sinusoids | Mixture) else as_source(each)
            for each in sources
        ]
        counts = sorted({source.tasks for source in sources})
        if len(counts) > 1:
            raise InputError(
                f"The sources give {counts} tasks an episode; all must give the same number."
            )
        every = [_inputs(source) for source in sources]
        for inputs in every:
            if inputs.to_dict() != every[0].to_dict():
                raise InputError(
                    f"Inputs of one source are {every[0].to_dict()} and of another "
                    f"{inputs.to_dict()}; they must be alike. Embed the data sets first "
                    "(`dataset.embed(encoder)`), to vectors of one length."
                )
        self.sources = tuple(sources)
        self.weights = tuple(weights)
        self.seed = whole_number(seed, "seed")
        self.inputs = every[0]
        self.tasks = counts[0]
        self.ways = max(_most_ways(source) for source in sources)
        self._ends = np.cumsum(weights) / sum(weights)

    @classmethod
    def of_datasets(
        cls,
        datasets: Sequence[DescribedClasses],
        ways: Sequence[int],
        shots: Sequence[int],
        queries: int = 15,
        tasks: int = 1,
        seed: int = 0,
    ) -> Mixture:
        """Draws a data set, then one of the given numbers of ways and shots that it is enough for.

        Args:
            datasets: all drawn equally often.
            ways: numbers of classes to choose from, such as (2, 5, 20); not a range.
            shots: numbers of support examples a class to choose from.
            queries: query examples a class.
            tasks: tasks in an episode.
            seed: of everything.

        Raises:
            ValueError: when a data set is too small for the fewest ways and shots.
        """
        sources: list[EpisodeSampler] = []
        weights: list[float] = []
        ways = [whole_number(each, "ways", least=1) for each in ways]
        shots = [whole_number(each, "shots", least=1) for each in shots]
        queries = whole_number(queries, "queries", least=1)
        for dataset in datasets:
            most_ways, most_shots = len(dataset.sizes), int(dataset.sizes.min()) - queries
            pairs = [
                (way, shot)
                for way, shot in itertools.product(ways, shots)
                if way <= most_ways and shot <= most_shots
            ] or [(min(ways), min(shots))]  # which the sampler refuses, saying what is too small
            sources += [
                EpisodeSampler(dataset, way, shot, queries, tasks=tasks, seed=seed)
                for way, shot in pairs
            ]
            weights += [1 / len(pairs)] * len(pairs)
        return cls(sources, weights, seed)

    def source(self, index: int) -> int:
        """The number of the source of episode ``index``."""
        if index < 0:
            raise InputError(f"Episode index {index} is negative; episodes count from 0.")
        uniform = np.random.default_rng([self.seed, 4, index]).random()
        return int(np.searchsorted(self._ends[:-1], uniform, side="right"))

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``: the drawn source's episode of that index, or ``tasks`` of it."""
        return self.sources[self.source(index)].episode(index, tasks)


def _inputs(source: EpisodeSampler | TaskSource) -> Inputs:
    holder = source.dataset if isinstance(source, EpisodeSampler) else source
    inputs: Inputs | None = getattr(holder, "inputs", None)
    if inputs is None:
        raise InputError(
            f"A {type(holder).__name__} does not say how its inputs were made; give it an "
            "attribute `inputs`, as ClassDataset has."
        )
    return inputs


def _most_ways(source: EpisodeSampler | TaskSource) -> int:
    return source.ways[1] if isinstance(source, EpisodeSampler) else source.ways
