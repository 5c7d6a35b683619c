"""A strategy's predictions on many episodes, without changing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TypeGuard

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import now
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.compute.ranks import gathered_rows, rank, ranks, sum_over_ranks
from quickstudy.counts import Count, as_whole
from quickstudy.datasets import ClassDataset
from quickstudy.datasets.decoded.features import (
    EXAMPLES_AT_ONCE,
    TooLargeError,
    embed_examples,
    every_example,
)
from quickstudy.episodes import Episode, EpisodeIndices, EpisodeSampler, Examples, TaskSource
from quickstudy.episodes.sampler import TASKS_AT_ONCE, ClassSource, QueryBalance
from quickstudy.errors import InputError
from quickstudy.evaluation.observing import Observed, observed, same_features
from quickstudy.evaluation.protocol import Protocol
from quickstudy.inputs import FeatureInputs
from quickstudy.strategies import Strategy
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

Adapt = Callable[[Examples, int], Theta]
Predict = Callable[[Theta, Tensor], Tensor]

IMAGES_AT_ONCE = 640
"""Examples passed through a strategy at once; more would leave a processor's cache."""

FEATURE_BYTES_AT_ONCE = {"cpu": 2**22, "cuda": 2**28}
"""Bytes of features processed at once: a CPU should stay in its cache, a GPU needs much work."""

MOST_FEATURE_BYTES = 2**30
"""Memory for features; if all needed examples take more, features are computed for every batch."""


@dataclass(frozen=True)
class Outcome:
    """The predictions of a strategy for a batch of T tasks.

    Args:
        logits: ``[T, Q, ways]`` float32; in regression the predictions, ``[T, Q, D]``.
        targets: ``[T, Q]`` int64; in regression ``[T, Q, D]`` float.
        adapt_seconds: duration of ``adapt`` for all T tasks. If features were computed once for
            many episodes, the encoder's mean time per example is added for each support example, so
            that the number is what new tasks would take.
        predict_seconds: duration of ``predict`` for all T tasks, computed likewise.
        support_targets: ``[T, N]`` or ``[T, N, D]``, for tasks that no protocol has drawn.
        observed: what was observed of the strategy in use, if its classes alone do not show it.
    """

    logits: Tensor
    targets: Tensor
    adapt_seconds: float
    predict_seconds: float
    support_targets: Tensor | None = None
    observed: Observed | None = None

    @property
    def accuracies(self) -> Tensor:
        """``[T]``: the fraction of each task's queries that were right."""
        return (self.logits.argmax(-1) == self.targets).float().mean(-1)

    @property
    def squared_errors(self) -> Tensor:
        """``[T]``: the mean squared error of each regression task."""
        return (self.logits - self.targets).square().flatten(1).mean(1)

    @property
    def scores(self) -> Tensor:
        """``[T]``, higher is better: accuracy, or in regression minus the squared error."""
        return -self.squared_errors if self.targets.is_floating_point() else self.accuracies


@dataclass(frozen=True)
class FeatureSource:
    """Classes with the features of those examples that are needed.

    Args:
        class_names: C names.
        sizes: ``[C]`` int64, the number of examples of each class.
        starts: ``[C]`` int64, the number of examples before each class.
        features: ``[m, D]``, the features of the needed examples.
        rows: ``[n]`` int64, the row of each example's features, class after class; meaningless for
            examples that are not needed.
        seconds: time that the encoder took per example.
    """

    class_names: Sequence[str]
    sizes: Tensor
    starts: Tensor
    features: Tensor
    rows: Tensor
    seconds: float

    def gather(self, classes: Tensor, positions: Tensor) -> Tensor:
        """Features ``[*batch, D]`` of examples, as :meth:`ClassDataset.gather` reads them."""
        rows = self.rows.take(self.starts.take(classes) + positions).flatten()
        features = self.features.index_select(0, rows.to(self.features.device))
        return features.view(*classes.shape, -1)


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
    embedded: Callable[[int, int], None] | None = None,
    query_balance: QueryBalance = "balanced",
) -> Iterator[Outcome]:
    """Adapts to and predicts each of ``episodes`` tasks; the same tasks for the same seed.

    If the encoder is the same for every task, each example that the episodes need is encoded once,
    and the tasks are solved on features.

    In a process group all ranks call this together. They take turns with the batches that a single
    process would encode and predict, so that results are the same to the bit, and each rank yields
    its own: :func:`quickstudy.compute.ranks.gathered` puts them in order.

    Args:
        strategy: any strategy; it is not changed.
        data: classes to draw tasks from.
        ways: number of classes in a task, or an inclusive (low, high) range.
        shots: number of support examples per class, or an inclusive (low, high) range.
        queries: number of query examples per class.
        episodes: number of tasks.
        seed: random seed of the tasks.
        device: device to compute on; the strategy must be there.
        embedded: called with (examples that this rank has encoded, examples that it will encode).
        query_balance: how queries are spread over the classes of a task; see ``EpisodeSampler``.
    """
    # Tasks of different ways or shots cannot share a tensor.
    fixed = as_whole(ways) is not None and as_whole(shots) is not None
    drawn = min(episodes, TASKS_AT_ONCE) if fixed else 1
    sampler = EpisodeSampler(
        data, ways, shots, queries, tasks=drawn, seed=seed, query_balance=query_balance
    )
    adapt: Adapt = strategy.adapt
    predict: Predict = strategy.predict
    seconds = 0.0
    examples = sampler.ways[1] * (sampler.shots[1] + queries)
    at_once = IMAGES_AT_ONCE // examples
    with evaluating(strategy):
        seen = observed(strategy, lambda: sampler.read(next(_batches(sampler, 1, 1))).to(device))
        if seen is not None and seen.by_batch:
            at_once = 1  # tasks that share a batch would not be apart
        elif has_fixed_encoder(strategy):
            source = _features(strategy.encoder, sampler, episodes, device, embedded)
            if source is not None:
                sampler.dataset, seconds = source, source.seconds
                adapt, predict = strategy.adapt_features, strategy.predict_features
                budget = FEATURE_BYTES_AT_ONCE.get(torch.device(device).type, 2**28)
                at_once = budget // (examples * source.features[0].nbytes)
        for batch in islice(_batches(sampler, episodes, at_once), rank(), None, ranks()):
            yield _outcome(adapt, predict, sampler.read(batch).to(device), device, seen, seconds)


def outcomes_of_tasks(
    strategy: Strategy, source: TaskSource, episodes: int, device: torch.device | str = "cpu"
) -> Iterator[Outcome]:
    """Adapts to and predicts the first ``episodes`` tasks of a source, in its order.

    In a process group, ranks take turns with its episodes, as in :func:`outcomes`.
    """
    with evaluating(strategy):
        seen = observed(strategy, lambda: source.episode(0, slice(1)).to(device))
        for index in islice(range(math.ceil(episodes / source.tasks)), rank(), None, ranks()):
            left = episodes - index * source.tasks
            episode = source.episode(index, slice(min(left, source.tasks))).to(device)
            at_once = 1 if seen is not None and seen.by_batch else episode.tasks
            for first in range(0, episode.tasks, at_once):
                part = episode[first : first + at_once]
                found = _outcome(strategy.adapt, strategy.predict, part, device, seen)
                targets = part.query.targets
                if targets.is_floating_point() and found.logits.shape != targets.shape:
                    raise InputError(
                        f"{type(strategy).__name__} predicts {list(found.logits.shape)}, but the "
                        f"targets are {list(targets.shape)}; in regression, predictions must have "
                        "the shape of the targets."
                    )
                yield replace(found, support_targets=part.support.targets)


def _outcome(
    adapt: Adapt,
    predict: Predict,
    episode: Episode,
    device: torch.device | str,
    seen: Observed | None,
    encoder_seconds: float = 0.0,
) -> Outcome:
    """Adapts and predicts; ``encoder_seconds`` per example are added to the times."""
    support, query = episode.support, episode.query
    started = now(device)
    theta = adapt(support, episode.ways)
    adapted = now(device)
    logits = predict(theta, query.inputs)
    return Outcome(
        logits.float(),
        query.targets,
        adapted - started + encoder_seconds * support.targets.numel(),
        now(device) - adapted + encoder_seconds * query.targets.numel(),
        observed=seen,
    )


def outcomes_on(
    strategy: Strategy,
    data: ClassDataset | TaskSource,
    protocol: Protocol | None,
    *,
    episodes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    embedded: Callable[[int, int], None] | None = None,
    query_balance: QueryBalance = "balanced",
) -> Iterator[Outcome]:
    """The outcomes of tasks drawn from classes by a protocol, or of a source's own tasks.

    The arguments are those of :func:`outcomes`; a source takes no seed and no balance.
    """
    if not isinstance(data, ClassDataset):
        return outcomes_of_tasks(strategy, data, episodes, device)
    assert protocol is not None
    return outcomes(
        strategy,
        data,
        ways=protocol.ways,
        shots=protocol.shots,
        queries=protocol.queries,
        episodes=episodes,
        seed=seed,
        device=device,
        embedded=embedded,
        query_balance=query_balance,
    )


def has_fixed_encoder(strategy: Strategy) -> TypeGuard[EmbeddingStrategy]:
    """Whether an example has the same features in every task, as its classes declare."""
    # Without running averages a layer normalises by the current batch.
    return same_features(strategy) and not any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None
        for layer in strategy.encoder.modules()
    )


def _batches(sampler: EpisodeSampler, episodes: int, at_once: int) -> Iterator[EpisodeIndices]:
    """All tasks, at most ``at_once`` (and at least one) in a batch."""
    for block in range(math.ceil(episodes / sampler.tasks)):
        drawn = sampler.indices(block)[: episodes - block * sampler.tasks]
        for start in range(0, len(drawn.classes), max(1, at_once)):
            yield drawn[start : start + max(1, at_once)]


def _features(
    encoder: nn.Module,
    sampler: EpisodeSampler,
    episodes: int,
    device: torch.device | str,
    embedded: Callable[[int, int], None] | None,
) -> FeatureSource | None:
    """The features of all examples in the episodes; None if they take too much memory."""
    data = sampler.dataset
    names, sizes = data.class_names, data.sizes
    starts = torch.cumsum(sizes, 0) - sizes
    of_class, positions = every_example(sizes)
    if _are_features(data, encoder, device):
        rows = data.starts[of_class] + positions
        return FeatureSource(names, sizes, starts, data.examples, rows, 0.0)
    needed = torch.zeros(len(of_class), dtype=torch.bool)
    for block in _batches(sampler, episodes, sampler.tasks):
        needed[starts[block.support_classes] + block.support] = True
        needed[starts[block.query_classes] + block.query] = True
    numbers = needed.nonzero().flatten()
    batches = torch.split(numbers, EXAMPLES_AT_ONCE)
    turns = ranks() if len(batches) >= ranks() else 1  # else all encode the few that there are
    own = torch.cat(batches[rank() % turns :: turns])
    try:
        made = embed_examples(
            encoder,
            data,
            of_class[own],
            positions[own],
            device,
            MOST_FEATURE_BYTES * len(own) // len(numbers),
            embedded,
        )
    except TooLargeError:  # for every rank, since that is its share of the memory
        return None
    features, seconds = made.features, made.seconds
    if turns > 1:
        features = gathered_rows(features, len(numbers), EXAMPLES_AT_ONCE)
        (seconds,) = sum_over_ranks([], [seconds], device)
    rows = needed.cumsum(0) - 1
    return FeatureSource(names, sizes, starts, features, rows, seconds / len(numbers))


def _are_features(
    data: ClassSource, encoder: nn.Module, device: torch.device | str
) -> TypeGuard[ClassDataset]:
    """Whether the stored examples are already what the encoder makes of them."""
    return (
        isinstance(encoder, nn.Identity | nn.Flatten)
        and isinstance(data, ClassDataset)
        and isinstance(data.inputs, FeatureInputs)
        and data.examples.device == torch.device(device)
    )


def mean_and_interval(values: Tensor) -> tuple[float, float]:
    """The mean of ``[n]`` independent values, and the half-width of its 95 % confidence interval.

    The half-width is Student's, t(0.975, n − 1) s / √n with s the standard deviation of the values;
    NaN for a single value. Where the values are accuracies of tasks, the interval covers other
    tasks of the same classes, not tasks of other classes.
    """
    values = values.double()
    count, mean = len(values), float(values.sum()) / len(values)
    if count < 2:
        return mean, math.nan
    return mean, students_t(count - 1) * float(values.std()) / math.sqrt(count)


@cache
def students_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution with the given degrees of freedom.

    12.7 for a mean of two values, 2.09 for 20, and 1.96, the normal distribution's, for very many.
    """
    from scipy.special import stdtrit  # takes a quarter of a second

    return float(stdtrit(degrees, 0.975))
