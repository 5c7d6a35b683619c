"""A strategy's predictions on many episodes, without changing it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickstudy.episodes import EpisodeSampler
from quickstudy.episodes.sampler import ClassSource, Count
from quickstudy.strategies import Strategy

IMAGES_AT_ONCE = 640
"""Examples passed through a strategy at once; more would leave a processor's cache."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts ``module`` in evaluation mode, without gradients, and back."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(training)


@dataclass(frozen=True)
class Outcome:
    """What a strategy said of a batch of T tasks.

    Args:
        logits: ``[T, Q, ways]`` float32.
        targets: ``[T, Q]`` int64.
        adapt_seconds: spent in ``adapt``, for all T.
        predict_seconds: spent in ``predict``, for all T.
    """

    logits: Tensor
    targets: Tensor
    adapt_seconds: float
    predict_seconds: float

    @property
    def accuracies(self) -> Tensor:
        """``[T]``: the fraction of each task's queries that were right."""
        return (self.logits.argmax(-1) == self.targets).float().mean(-1)


def outcomes(
    strategy: Strategy,
    data: ClassSource,
    *,
    ways: Count,
    shots: Count,
    queries: int,
    episodes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Outcome]:
    """Adapts to and predicts each of ``episodes`` tasks; the same tasks for the same seed.

    Args:
        strategy: any strategy; left as it was.
        data: classes to draw tasks from.
        ways: classes in a task, or a range.
        shots: support examples a class, or a range.
        queries: query examples a class.
        episodes: the number of tasks.
        seed: of the tasks.
        device: where to compute; the strategy must be there.
        shard: (rank, ranks): take every ``ranks``-th batch only.
    """
    at_once = 1  # tasks of different ways or shots cannot share a tensor
    if isinstance(ways, int) and isinstance(shots, int):
        at_once = max(1, min(episodes, IMAGES_AT_ONCE // max(1, ways * (shots + queries))))
    sampler = EpisodeSampler(data, ways, shots, queries, at_once, seed)
    rank, ranks = shard
    with evaluating(strategy):
        for batch in range(rank, math.ceil(episodes / at_once), ranks):
            remaining = episodes - batch * at_once
            episode = sampler.episode(batch, slice(0, remaining)).to(device)
            started = time.perf_counter()
            theta = strategy.adapt(episode.support, episode.ways)
            adapted = _now(device)
            logits = strategy.predict(theta, episode.query.inputs)
            yield Outcome(
                logits.float(), episode.query.targets, adapted - started, _now(device) - adapted
            )


def _now(device: torch.device | str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """The mean of ``[n]`` values, and the half-width of its 95 % confidence interval."""
    values = values.double()
    return interval_of_moments(len(values), float(values.sum()), float(values.square().sum()))


def interval_of_moments(count: float, total: float, squares: float) -> tuple[float, float]:
    """The same from the number of values, their sum and the sum of their squares.

    The half-width is 1.96 standard errors; not a number for a single value.
    """
    mean = total / count
    if count < 2:
        return mean, math.nan
    variance = max(0.0, squares - count * mean**2) / (count - 1)
    return mean, 1.96 * math.sqrt(variance / count)
