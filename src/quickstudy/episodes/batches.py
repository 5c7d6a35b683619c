"""Ordinary batches of all classes, for strategies that learn by classifying them."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.counts import whole_number
from quickstudy.episodes.episode import Episode, Examples, unchecked_episode
from quickstudy.episodes.sampler import ClassSource


class BatchSampler:
    """Passes through all examples in random order, again and again, a batch at a time.

    A batch is a task without support whose ways are all the classes. Like an episode it is a
    function of (seed, index) alone.

    Args:
        dataset: where examples come from.
        size: examples in a batch.
        tasks: batches in an episode.
        seed: random seed of the order.
    """

    def __init__(self, dataset: ClassSource, size: int, tasks: int = 1, seed: int = 0) -> None:
        self.dataset = dataset
        self.size = whole_number(size, "size", least=1)
        self.tasks = whole_number(tasks, "tasks", least=1)
        self.seed = whole_number(seed, "seed")
        self._ends = dataset.sizes.numpy().cumsum()
        # Neighbouring batches are of one pass or two.
        self._order = functools.lru_cache(2)(self._shuffled)

    @property
    def ways(self) -> int:
        """The number of classes."""
        return len(self._ends)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, 2, epoch])
        return generator.permutation(int(self._ends[-1]))

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``: T batches as queries, or those of them that ``tasks`` picks."""
        first = index * self.tasks * self.size
        places = np.arange(first, first + self.tasks * self.size).reshape(self.tasks, self.size)
        places = places[slice(None) if tasks is None else tasks]
        epochs, places = np.divmod(places, int(self._ends[-1]))
        numbers = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            numbers[epochs == epoch] = self._order(epoch)[places[epochs == epoch]]
        classes = np.searchsorted(self._ends, numbers, side="right")
        starts = np.concatenate([[0], self._ends[:-1]])
        targets, positions = torch.from_numpy(classes), torch.from_numpy(numbers - starts[classes])
        inputs = self.dataset.gather(targets, positions)
        targets = targets.to(inputs.device)
        return unchecked_episode(
            Examples(inputs[:, :0], targets[:, :0]), Examples(inputs, targets), self.ways
        )
