"""Regression tasks: sine waves."""

from __future__ import annotations

import math

import numpy as np
import torch

from quickstudy.counts import whole_number
from quickstudy.episodes.episode import Episode, Examples
from quickstudy.inputs import FeatureInputs, Inputs


class Sinusoids:
    """Each task is a wave y = A sin(x − b), seen at a few points.

    A is uniform in [0.1, 5], b in [0, π] and x in [−5, 5]: Finn, Abbeel, Levine, "Model-Agnostic
    Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section 5.1. An episode is a
    function of (seed, index) alone.

    Args:
        shots: points to learn from.
        queries: points to be judged on.
        tasks: tasks in an episode.
        seed: random seed of the stream of episodes.
    """

    def __init__(self, shots: int = 10, queries: int = 10, tasks: int = 1, seed: int = 0) -> None:
        self.inputs: Inputs = FeatureInputs(1)
        self.ways = 1  # the length of a target
        self.shots = whole_number(shots, "shots", least=1)
        self.queries = whole_number(queries, "queries", least=1)
        self.tasks = whole_number(tasks, "tasks", least=1)
        self.seed = whole_number(seed, "seed")

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``, inputs and targets ``[T, N, 1]``; or those tasks ``tasks`` picks."""
        numbers = range(index * self.tasks, (index + 1) * self.tasks)
        numbers = numbers[slice(None) if tasks is None else tasks]
        uniform = torch.stack([self._uniform(number) for number in numbers])[..., None]
        amplitude, phase = 0.1 + 4.9 * uniform[:, :1], math.pi * uniform[:, 1:2]
        x = 10 * uniform[:, 2:] - 5
        y = amplitude * torch.sin(x - phase)
        support, query = (
            Examples(x[:, part], y[:, part])
            for part in (slice(self.shots), slice(self.shots, None))
        )
        return Episode(support, query, self.ways)

    def _uniform(self, number: int) -> torch.Tensor:
        """The random numbers of task ``number``."""
        generator = np.random.default_rng([self.seed, 3, number])
        return torch.from_numpy(generator.random(2 + self.shots + self.queries, np.float32))
