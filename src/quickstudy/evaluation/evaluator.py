"""Evaluation over many episodes of classes that training never saw."""

from __future__ import annotations

import math
import time
import warnings

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from quickstudy.compute.allocator import keep_freed_memory
from quickstudy.compute.devices import device_of
from quickstudy.compute.ranks import gathered, rank, ranks, sum_over_ranks
from quickstudy.compute.watch import Watch
from quickstudy.counts import Count, whole_number, whole_range
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import TaskSource
from quickstudy.episodes.sampler import QueryBalance
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import check_source, checked_strategy, classes_or_tasks
from quickstudy.evaluation.observing import Observed, normalization_policy
from quickstudy.evaluation.outcomes import Outcome, mean_and_interval, outcomes_on
from quickstudy.evaluation.protocol import Protocol
from quickstudy.evaluation.report import Estimate, Report
from quickstudy.runs.run import Run
from quickstudy.saving.description import differences
from quickstudy.strategies import Strategy

CALIBRATION_BINS = 15


def evaluate(
    strategy: Strategy | Run,
    data: ClassDataset | TaskSource,
    *,
    ways: Count | None = None,
    shots: Count | None = None,
    queries: int | None = None,
    episodes: int = 1000,
    seed: int = 0,
    query_balance: QueryBalance = "balanced",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Report:
    """Measures a strategy on ``episodes`` tasks drawn from ``data``, or on those of a source.

    In a process group (of ``torch.distributed``, as training on several devices leaves one) all
    ranks must call this together: they share the tasks, and each gets the report of a single
    process, except for the times.

    Args:
        strategy: a strategy or a run; it is not changed.
        data: classes that the strategy was not trained on; or a source of tasks, which is any
            object with a method ``episode(number)``; its first ``episodes`` tasks are used.
        ways: classes per task, or a range ``(low, high)``; by default those that the strategy was
            made for, otherwise 5, or as many as there are.
        shots: support examples per class, or a range; by default 1.
        queries: query examples per class; by default 15, or as many as the smallest class has
            beside its shots.
        episodes: the number of tasks.
        seed: random seed; the same seed draws the same tasks for every strategy.
        query_balance: "balanced", or "dirichlet" for tasks whose classes have unequal numbers of
            queries, ``queries`` on average (see :class:`EpisodeSampler`). Balanced queries
            favour transductive strategies that assume them.
        device: where to compute; by default where the strategy's parameters are.
        progress: show a progress bar.

    Returns:
        Accuracy with its confidence interval, likelihood, calibration and times; in regression the
        mean squared error.

    Raises:
        ValueError: when the data has too few or too small classes, or inputs of another kind than
            the run was trained on.
        LostContactError: when another rank ends.

    Example:
        >>> import quickstudy
        >>> from quickstudy.encoders import Conv4
        >>> from quickstudy.strategies import PrototypicalNetwork
        >>> data = quickstudy.load_dataset("glyphs")
        >>> strategy = PrototypicalNetwork(Conv4((1, 28, 28), channels=4))
        >>> report = quickstudy.evaluate(strategy, data.split()["test"], ways=5, episodes=10)
        >>> report.protocol, report.episodes, report.transductive
        ('5-way 1-shot', 10, False)
    """
    keep_freed_memory()
    run = strategy if isinstance(strategy, Run) else None
    strategy = checked_strategy(strategy.strategy if isinstance(strategy, Run) else strategy)
    data = classes_or_tasks(data, "evaluation")
    episodes, seed = checked_episodes(episodes), whole_number(seed, "seed")
    if run is not None:
        _check_inputs(run, data)
    protocol: Protocol | None = None
    if isinstance(data, ClassDataset):
        if run is not None:
            _warn_of_seen_classes(run, data)
        protocol = Protocol.suited(
            strategy, data, ways, shots, queries, query_balance=query_balance
        )
    else:
        check_source(strategy, data, to_train=False)
        strategy.check_ways(data.ways)
        given = {
            "ways": ways is not None,
            "shots": shots is not None,
            "queries": queries is not None,
            "seed": seed != 0,
            "query_balance": query_balance != "balanced",
        }
        if named := [name for name, chosen in given.items() if chosen]:
            raise InputError(
                f"{', '.join(named)} cannot be chosen here, because {_name(data)} makes its own "
                "tasks; choose them where you create that source of tasks."
            )
    if device is None:
        device = device_of(strategy)
    started = time.perf_counter()
    own = _Found()
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal and rank() == 0)
    with Watch(), Progress(console=console, disable=hidden, transient=True) as bar:
        embedding = bar.add_task("embedding the examples", total=None, visible=False)
        task = bar.add_task(f"evaluating {type(strategy).__name__}", total=episodes // ranks())
        found = outcomes_on(
            strategy,
            data,
            protocol,
            episodes=episodes,
            seed=seed,
            device=device,
            embedded=lambda done, all_: bar.update(
                embedding, completed=done, total=all_, visible=True
            ),
            query_balance=query_balance,
        )
        for outcome in found:
            own.add(outcome)
            bar.advance(task, len(outcome.targets))
        everything = own.gathered(device)
        seconds = sum_over_ranks([], [own.adapt_seconds, own.predict_seconds], device)
    accuracies = everything["accuracies"].float().cpu()
    errors = everything["errors"]
    if protocol is None:
        protocol = _protocol_of(everything["counts"].view(-1, 4))
    unknown = Estimate(math.nan, math.nan)
    return Report(
        strategy=type(strategy).__name__,
        data=_name(data),
        ways=_fixed_or_range(protocol.ways),
        shots=_fixed_or_range(protocol.shots),
        queries=protocol.queries,
        episodes=episodes,
        seed=seed,
        accuracy=Estimate(*mean_and_interval(accuracies)) if len(accuracies) else unknown,
        nll=float(everything["losses"].float().mean()),
        ece=calibration_error(everything["confidences"], everything["hits"]),
        transductive=strategy.transductive or bool(own.observed and own.observed.by_batch),
        normalization=normalization_policy(strategy, own.observed),
        seconds=time.perf_counter() - started,
        adapt_seconds=seconds[0] / episodes,
        predict_seconds=seconds[1] / episodes,
        query_balance=query_balance,
        squared_error=Estimate(*mean_and_interval(errors)) if len(errors) else None,
        accuracies=accuracies if len(accuracies) else None,
    )


def checked_episodes(episodes: int) -> int:
    """The number of episodes, if an interval can be made of so many (else ValueError)."""
    episodes = whole_number(episodes, "episodes")
    if episodes < 2:
        raise InputError(
            f"{episodes} episodes were asked for; an interval needs at least 2, and 1000 are usual."
        )
    return episodes


def _name(data: ClassDataset | TaskSource) -> str:
    """The name of the data in reports: a data set's own name, or the class name of a source."""
    given = getattr(data, "given", data)
    named = getattr(given, "dataset", given)
    name = getattr(named, "name", None)
    return name if isinstance(name, str) else type(given).__name__


def _fixed_or_range(count: Count) -> int | tuple[int, int]:
    low, high = whole_range(count, "count")
    return low if low == high else (low, high)


def _protocol_of(counts: Tensor) -> Protocol:
    """The protocol of a source's own tasks, from ``_Found.counts``."""
    low, high = counts.amin(0).long().tolist(), counts.amax(0).long().tolist()
    queries = round(float(counts[:, 3].mean()))
    return Protocol([low[0], high[0]], [low[1], high[2]], queries)


class _Found:
    """The results of a rank, batch by batch."""

    def __init__(self) -> None:
        self.accuracies: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.confidences: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.errors: list[Tensor] = []
        self.counts: list[Tensor] = []  # per task: ways, least and most shots, queries
        self.observed: Observed | None = None
        self.adapt_seconds = self.predict_seconds = 0.0

    def gathered(self, device: torch.device | str) -> dict[str, Tensor]:
        """The results of all ranks, in order."""
        names = ("accuracies", "losses", "confidences", "hits", "errors", "counts")
        return {name: gathered(getattr(self, name), device) for name in names}

    def add(self, outcome: Outcome) -> None:
        self.observed = outcome.observed or self.observed
        self.adapt_seconds += outcome.adapt_seconds
        self.predict_seconds += outcome.predict_seconds
        if outcome.support_targets is not None:
            self.counts.append(_counts(outcome, outcome.support_targets).flatten())
        targets = outcome.targets
        if targets.is_floating_point():
            self.errors.append(outcome.squared_errors)
            return
        # Several times faster over an axis that is not the last, when it is short.
        log_probabilities = outcome.logits.transpose(1, 2).log_softmax(1)  # [T, ways, Q]
        self.accuracies.append(outcome.accuracies)
        self.losses.append(-log_probabilities.gather(1, targets[:, None]).mean((1, 2)))
        confidence, answer = log_probabilities.max(1)
        self.confidences.append(confidence.exp().flatten())
        self.hits.append((answer == targets).flatten())


def _counts(outcome: Outcome, support: Tensor) -> Tensor:
    """``[T, 4]`` float64: ways, fewest and most shots of a class, queries per class."""
    ways, tasks = outcome.logits.shape[2], len(support)
    queries = float(outcome.targets.shape[1])
    if support.is_floating_point():
        shots = torch.full((tasks, 1), support.shape[1], device=support.device)
    else:
        shots, queries = nn.functional.one_hot(support, ways).sum(1), queries / ways
    fixed = torch.tensor([[ways, queries]], dtype=torch.float64, device=support.device)
    fixed = fixed.expand(tasks, 2)
    least, most = shots.amin(1, keepdim=True), shots.amax(1, keepdim=True)
    return torch.cat([fixed[:, :1], least.double(), most.double(), fixed[:, 1:]], dim=1)


def calibration_error(confidences: Tensor, hits: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """The expected calibration error (Guo et al. 2017, equation 3).

    Args:
        confidences: ``[n]``, the probability given to each answer.
        hits: ``[n]``, whether the answer was right.
        bins: bins of equal width over confidences from 0 to 1.

    Returns:
        The mean over answers of |accuracy − confidence| of the answer's bin.
    """
    confidences, hits = confidences.double(), hits.double()
    number = (confidences * bins).long().clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=hits.device)
    gaps.index_add_(0, number, hits - confidences)
    return float(gaps.abs().sum() / len(hits)) if len(hits) else math.nan


def _warn_of_seen_classes(run: Run, data: ClassDataset) -> None:
    seen = {name for names in run.classes.values() for name in names} & set(data.class_names)
    if seen:
        warnings.warn(
            f"{len(seen)} of the {data.classes} classes of {data.name} have names of classes that "
            f"the run was trained or validated on, {min(seen)!r} among them: if they are the same, "
            "this does not measure how well it learns new ones.",
            stacklevel=3,
        )


def _check_inputs(run: Run, data: ClassDataset | TaskSource) -> None:
    other = differences(run.inputs.to_dict(), data.inputs.to_dict())
    if other:
        raise InputError(
            f"{_name(data)} was read with other inputs than the run was trained on; expected "
            f"{'; '.join(other)}. Read it with the inputs of the run: load_dataset(..., "
            "inputs=run.inputs)."
        )
