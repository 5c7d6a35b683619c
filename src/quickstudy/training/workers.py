"""Workers that compute tasks with a strategy's modules, and the sums of what they found."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.encoders.task_normalization import copied
from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.strategies import EmbeddingStrategy, Strategy
from quickstudy.strategies.foreign import alike
from quickstudy.strategies.state import StrategyState
from quickstudy.strategies.strategy import LossAndLogits, loss_and_logits
from quickstudy.training.compiling import CompiledForward

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass
class Sums:
    """The sums over the tasks of a meta-batch.

    Tensors are float64, where the device has it: numbers of float32 are added up there without
    rounding, but for the rare that are half a billion times smaller than their neighbour, so that
    it does not matter in which order, nor how many processes share the tasks.

    Args:
        loss: the sum of the tasks' losses.
        accuracy: the sum of their accuracies; not a number where a strategy gives no logits.
        averages: for each floating-point buffer of the strategy, the sum over tasks of what it
            became, each task starting from the same value.
        gradients: of each parameter that is learned; none where no task depends on it.
    """

    loss: float
    accuracy: float
    averages: list[Tensor]
    gradients: list[Tensor | None]


@dataclass(frozen=True)
class Result:
    """Of so many tasks: the sums of loss and accuracy, and the gradient of the loss's sum."""

    tasks: int
    loss: float
    accuracy: float
    gradients: Sequence[Tensor | None]
    after: StrategyState


def agree(one: Sequence[Result], other: Sequence[Result]) -> bool:
    """Whether the sums of results are equal, except for rounding."""
    found, expected = (added(results)[0] for results in (one, other))
    pairs = zip(found.gradients, expected.gradients, strict=True)
    if any((a is None) != (b is None) for a, b in pairs):
        return False

    def numbers(sums: Sums) -> list[Tensor]:
        gradients = [
            torch.view_as_real(each) if each.is_complex() else each
            for each in sums.gradients
            if each is not None
        ]
        # Sums are float64, but no more precise than the tasks were.
        return [each.float() for each in (torch.tensor(sums.loss), *sums.averages, *gradients)]

    return alike(numbers(found), numbers(expected))


def added(results: Iterable[Result]) -> tuple[Sums, StrategyState]:
    """The sums over results, and the state after the last."""
    loss = accuracy = 0.0
    averages: list[Tensor | None] = []
    gradients: list[Tensor | None] = []
    for result in results:
        loss += result.loss
        accuracy += result.accuracy
        averages = _plus(averages, [each * result.tasks for each in result.after.averages])
        gradients = _plus(gradients, result.gradients)
    return Sums(loss, accuracy, [a for a in averages if a is not None], gradients), result.after


def _plus(total: list[Tensor | None], more: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The sum of two lists, written over the first; what is missing counts as zero."""
    if not total:
        return [None if each is None else _exact(each) for each in more]
    for i, each in enumerate(more):
        if each is not None:
            so_far = total[i]
            total[i] = _exact(each) if so_far is None else so_far.add_(each)
    return total


def _exact(tensor: Tensor) -> Tensor:
    """A copy in which sums are exact; MPS knows no float64."""
    if tensor.device.type == "mps":
        return tensor.clone()
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64, copy=True)


class Worker:
    """Computes tasks with a strategy's modules."""

    def __init__(
        self,
        strategy: Strategy,
        parameters: Sequence[nn.Parameter],
        autocast: Autocast,
        compiled: bool,
        support_rotations: int,
    ) -> None:
        self.strategy = strategy
        self.support_rotations = support_rotations
        self.parameters = parameters
        self.autocast = autocast
        self.compiled = CompiledForward(strategy) if compiled else None

    def plain(self) -> Worker:
        """The same modules, in full precision and not compiled."""
        return Worker(self.strategy, self.parameters, nullcontext, False, self.support_rotations)

    def copy(self) -> Worker:
        """A worker with modules of its own, whose parameters are the same numbers in memory.

        They are tensors of their own: of one that two threads share, autograd looks up the node
        under a lock, within which it waits for Python's, and both may wait for each other forever.
        """
        same: dict[int, Any] = {
            id(each): nn.Parameter(each.detach(), each.requires_grad)
            for each in self.strategy.parameters()
        }
        parameters = [same[id(parameter)] for parameter in self.parameters]
        own = copied(self.strategy, same)
        return Worker(
            own, parameters, self.autocast, self.compiled is not None, self.support_rotations
        )

    def __call__(self, task: Episode, weight: float, start: StrategyState) -> Result:
        start.restore(self.strategy)
        with self.autocast(), self.compiled.lent() if self.compiled else nullcontext():
            loss, logits = loss_and_logits(self.strategy, self._loss(task))
        if not loss.requires_grad:
            encoder = getattr(self.strategy, "encoder", self.strategy)
            raise InputError(
                f"The loss of {type(self.strategy).__name__} depends on none of the parameters "
                f"that are to be learned. Does {type(encoder).__name__} compute under "
                "torch.no_grad() or detach what it gives? Leave that out, or freeze its "
                "parameters and use a strategy that learns others."
            )
        number = task.tasks
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            weight * number * loss, self.parameters, allow_unused=True
        )
        accuracy = number * _accuracy(logits, task.query.targets)
        after = StrategyState(self.strategy)
        return Result(number, number * loss.item(), accuracy, gradients, after)

    def _loss(self, task: Episode) -> LossAndLogits:
        if self.support_rotations == 1:
            return self.strategy.loss(task)
        assert isinstance(self.strategy, EmbeddingStrategy)  # see check_rotations
        return self.strategy.rotated_loss(task, self.support_rotations)


def _accuracy(logits: Tensor | None, targets: Tensor) -> float:
    """The share of right answers; not a number if there are no logits of the targets."""
    if logits is None or targets.is_floating_point() or logits.shape[:2] != targets.shape:
        return float("nan")
    return float((logits.argmax(-1) == targets).float().mean())


class Threads:
    """Threads that share the cores, and as many workers."""

    def __init__(self, worker: Worker, count: int) -> None:
        self.count = count
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for each in [worker, *(worker.copy() for _ in range(count - 1))]:
            self.idle.put(each)
        cores, together = torch.get_num_threads(), threading.Barrier(count)

        def begin() -> None:
            # Asked first: a new thread takes the number that holds for all at its first use.
            torch.get_num_threads()
            torch.set_num_threads(max(1, cores // count))
            together.wait()

        self.pool = ThreadPoolExecutor(count, "task", initializer=begin)
        for future in [self.pool.submit(int) for _ in range(count)]:
            future.result()
        torch.set_num_threads(cores)  # what threads that start later will have

    def submit(self, task: Episode, weight: float, start: StrategyState) -> Future[Result]:
        return self.pool.submit(self._run, task, weight, start)

    def _run(self, task: Episode, weight: float, start: StrategyState) -> Result:
        worker = self.idle.get()
        try:
            return worker(task, weight, start)
        finally:
            self.idle.put(worker)
