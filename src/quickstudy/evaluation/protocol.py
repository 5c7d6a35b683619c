"""The default numbers of ways, shots and queries of tasks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from quickstudy.compute.ranks import rank
from quickstudy.counts import Count, plain_count, whole_number, whole_range
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import EpisodeSampler
from quickstudy.episodes.defaults import DEFAULT_QUERIES, DEFAULT_SHOTS, DEFAULT_WAYS
from quickstudy.episodes.sampler import QueryBalance
from quickstudy.strategies import Strategy


@dataclass(frozen=True)
class Protocol:
    """The kind of task that a strategy is measured on.

    Args:
        ways: number of classes per task, or a range ``[low, high]``.
        shots: support examples per class, or a range.
        queries: query examples per class.
    """

    ways: Count
    shots: Count
    queries: int

    @classmethod
    def suited(
        cls,
        strategy: Strategy,
        data: ClassDataset,
        ways: Count | None = None,
        shots: Count | None = None,
        queries: int | None = None,
        trained_ways: Count = DEFAULT_WAYS,
        trained_shots: Count = DEFAULT_SHOTS,
        query_balance: QueryBalance = "balanced",
    ) -> Protocol:
        """The requested numbers; by default the usual ones, or fewer if the data are too small.

        A warning states if the data have too few classes or examples for the usual numbers.

        Args:
            strategy: to be measured.
            data: the data to draw tasks from.
            ways: None for the number in training, but at most 5 and at most the number of classes.
            shots: None for the number in training.
            queries: None for 15, or as many as the smallest class has beside its shots.
            trained_ways: of training.
            trained_shots: of training.
            query_balance: as for the sampler.

        Raises:
            ValueError: when the data are too small for the requested numbers.
        """
        reduced = []
        if ways is None:
            ways = strategy.default_ways(trained_ways)
            if data.classes < ways and strategy.ways is None:
                reduced.append(f"{data.classes} classes, so tasks have {data.classes} ways")
                ways = data.classes
        shots = trained_shots if shots is None else shots
        ways, shots = plain_count(ways, "ways", 1), plain_count(shots, "shots", 1)
        if queries is None:
            smallest, queries = int(data.sizes.min()), DEFAULT_QUERIES
            most = smallest - whole_range(shots, "shots", 1)[1]
            if 1 <= most < queries:
                plural = "y" if most == 1 else "ies"
                reduced.append(
                    f"classes of {smallest} examples, so tasks have {most} quer{plural} per class"
                )
                queries = most
        queries = whole_number(queries, "queries", 1)
        strategy.check_ways(ways)
        EpisodeSampler(data, ways, shots, queries, query_balance=query_balance)
        if reduced and rank() == 0:
            warnings.warn(f"{data.name} has {' and '.join(reduced)}.", stacklevel=3)
        return cls(ways, shots, queries)
