"""Evaluation over many episodes of classes that training never saw."""

from __future__ import annotations

import time
import warnings

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from quickstudy.datasets import ClassDataset
from quickstudy.encoders.normalization import TaskBatchNorm
from quickstudy.episodes.sampler import Count, QueryBalance
from quickstudy.evaluation.report import Estimate, Report
from quickstudy.strategies import Strategy
from quickstudy.training.allocator import keep_freed_memory
from quickstudy.training.description import differences
from quickstudy.training.ranks import gathered, rank, ranks, sum_over_ranks
from quickstudy.training.run import Run
from quickstudy.training.validation import Outcome, mean_and_interval, outcomes
from quickstudy.training.watch import Watch

CALIBRATION_BINS = 15


def evaluate(
    strategy: Strategy | Run,
    data: ClassDataset,
    *,
    ways: Count = 5,
    shots: Count = 1,
    queries: int = 15,
    episodes: int = 1000,
    seed: int = 0,
    query_balance: QueryBalance = "balanced",
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Report:
    """Measures a strategy on ``episodes`` tasks drawn from ``data``.

    In a process group (of ``torch.distributed``, as training on several devices leaves one) all
    ranks must call this together: they share the tasks, and each gets the report that one process
    would have made, but for its times.

    Args:
        strategy: a strategy or a run; it is not changed.
        data: classes that the strategy was not trained on.
        ways: classes in a task, or a range ``(low, high)``.
        shots: support examples a class, or a range.
        queries: query examples a class.
        episodes: the number of tasks.
        seed: of the tasks: the same seed draws the same tasks for every strategy.
        query_balance: "balanced", or "dirichlet" for tasks whose classes have unequal numbers of
            queries, ``queries`` on average (:class:`EpisodeSampler` says how they are drawn).
            Balanced queries flatter transductive strategies that take them for granted.
        device: where to compute; by default where the strategy's parameters are.
        progress: show a progress bar.

    Returns:
        Accuracy with its confidence interval, likelihood, calibration and times.

    Raises:
        ValueError: when the data has too few or too small classes, or inputs of another kind than
            the run was trained on.
        LostContactError: when another rank ends.
    """
    keep_freed_memory()
    if isinstance(strategy, Run):
        _check_inputs(strategy, data)
        _warn_of_seen_classes(strategy, data)
        strategy = strategy.strategy
    if episodes < 2:
        raise ValueError(
            f"{episodes} episodes were asked for; an interval needs at least 2, and 1000 are usual."
        )
    if isinstance(ways, int):
        strategy.check_ways(ways)
    if device is None:
        device = next((p.device for p in strategy.parameters()), torch.device("cpu"))
    started = time.perf_counter()
    own = _Found()
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal and rank() == 0)
    with Watch(), Progress(console=console, disable=hidden, transient=True) as bar:
        embedding = bar.add_task("embedding the examples", total=None, visible=False)
        task = bar.add_task(f"evaluating {type(strategy).__name__}", total=episodes // ranks())
        for outcome in outcomes(
            strategy,
            data,
            ways=ways,
            shots=shots,
            queries=queries,
            episodes=episodes,
            seed=seed,
            device=device,
            query_balance=query_balance,
            embedded=lambda done, all_: bar.update(
                embedding, completed=done, total=all_, visible=True
            ),
        ):
            own.add(outcome)
            bar.advance(task, len(outcome.targets))
        accuracies, losses, confidences, hits = (
            gathered(each, device)
            for each in (own.accuracies, own.losses, own.confidences, own.hits)
        )
        seconds = sum_over_ranks([], [own.adapt_seconds, own.predict_seconds], device)
    each = accuracies.float().cpu()
    return Report(
        strategy=type(strategy).__name__,
        data=data.name,
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        seed=seed,
        accuracy=Estimate(*mean_and_interval(each)),
        nll=float(losses.float().mean()),
        ece=calibration_error(confidences, hits),
        transductive=strategy.transductive,
        normalization=normalization_policy(strategy),
        seconds=time.perf_counter() - started,
        adapt_seconds=seconds[0] / episodes,
        predict_seconds=seconds[1] / episodes,
        query_balance=query_balance,
        accuracies=each,
    )


class _Found:
    """What a rank found, batch by batch."""

    def __init__(self) -> None:
        self.accuracies: list[Tensor] = []
        self.losses: list[Tensor] = []
        self.confidences: list[Tensor] = []
        self.hits: list[Tensor] = []
        self.adapt_seconds = self.predict_seconds = 0.0

    def add(self, outcome: Outcome) -> None:
        targets = outcome.targets
        # Several times faster over an axis that is not the last, when it is short.
        log_probabilities = outcome.logits.transpose(1, 2).log_softmax(1)  # [T, ways, Q]
        self.accuracies.append(outcome.accuracies)
        self.losses.append(-log_probabilities.gather(1, targets[:, None]).mean((1, 2)))
        confidence, answer = log_probabilities.max(1)
        self.confidences.append(confidence.exp().flatten())
        self.hits.append((answer == targets).flatten())
        self.adapt_seconds += outcome.adapt_seconds
        self.predict_seconds += outcome.predict_seconds


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
    return float(gaps.abs().sum() / len(hits))


def normalization_policy(strategy: nn.Module) -> str:
    """Whose statistics the strategy's normalisation layers use in evaluation, in words."""
    layers = [type(layer) for layer in strategy.modules()]
    if TaskBatchNorm in layers:
        of_queries = getattr(strategy, "transductive", False)
        return f"batch, statistics of the {'queries' if of_queries else 'support'}"
    if any(issubclass(layer, nn.modules.batchnorm._BatchNorm) for layer in layers):
        return "batch, running averages of training"
    if any(issubclass(layer, nn.GroupNorm) for layer in layers):
        return "group, each input by itself"
    return "none"


def _warn_of_seen_classes(run: Run, data: ClassDataset) -> None:
    seen = {name for names in run.classes.values() for name in names} & set(data.class_names)
    if seen:
        warnings.warn(
            f"{len(seen)} of the {data.classes} classes of {data.name} have names of classes that "
            f"the run was trained or validated on, {min(seen)!r} among them: if they are the same, "
            "this does not measure how well it learns new ones.",
            stacklevel=3,
        )


def _check_inputs(run: Run, data: ClassDataset) -> None:
    other = differences(run.inputs.to_dict(), data.inputs.to_dict())
    if other:
        raise ValueError(
            f"{data.name} was not read as the inputs that the run was trained on. There and here "
            f"differ: {'; '.join(other)}. Read it the way the run was trained: load_dataset(..., "
            "inputs=run.inputs)."
        )
