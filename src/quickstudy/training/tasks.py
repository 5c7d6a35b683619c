"""The gradient of a meta-batch: its tasks one by one, one on each core, or many in one call."""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from quickstudy.strategies.foreign import alike, is_known, random_state, untouched
from quickstudy.strategies.functional import is_small
from quickstudy.strategies.state import StrategyState
from quickstudy.strategies.strategy import LossAndLogits, loss_and_logits
from quickstudy.training.compiling import CompiledForward
from quickstudy.training.task_memory import free_memory, peak_memory

MEMORY_SHARE = 0.5
"""Of the memory that is free: how much may go to tasks that run side by side."""

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass
class Sums:
    """What the tasks of a meta-batch add up to.

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


class MetaGradient:
    """Computes the gradient of a meta-batch.

    Each task begins with the same buffers (running averages, counters), and gradients are added in
    the order of the tasks, so that it does not matter which core or process computes a task, nor
    after what. Memory does not grow with the number of tasks.

    On a CPU several tasks run at once, each on a core of its own: a task's operations are too small
    to gain much from being divided among cores. Each thread has its own copy of the strategy's
    modules, which share their parameters' memory. Where a single task leaves the processor idle, on
    a GPU or because its inputs are short vectors, the strategy is called with several tasks at
    once, unless its batch normalisation would mix them.

    A first task that runs by itself shows how much memory one takes, and whether the strategy draws
    random numbers; if it does, tasks run one after another, so that each draws its own.

    Args:
        strategy: on the device where it is to be computed.
        autocast: enters the precision in which losses are computed.
        at_once: tasks side by side or in one call; by default as many as cores and memory allow.
        compiled: compile the strategy's forward pass.
        turns: that a task's examples take at being its support (see ``Trainer``).
    """

    def __init__(
        self,
        strategy: Strategy,
        autocast: Autocast = nullcontext,
        at_once: int | None = None,
        compiled: bool = False,
        turns: int = 1,
    ) -> None:
        self.parameters = [p for p in strategy.parameters() if p.requires_grad]
        self.device = next((p.device for p in self.parameters), torch.device("cpu"))
        self.at_once = at_once
        self.worker = _Worker(strategy, self.parameters, autocast, compiled, turns)
        self.apart: bool | None = None  # whether tasks in one call are independent
        self.faithful: bool | None = None  # whether a copy of the strategy computes the same
        self.foreign = not is_known(strategy)
        self.threads: _Threads | None = None

    def __call__(
        self, tasks: Episode, weight: float, prepare: Callable[[int], Episode] | None = None
    ) -> Sums:
        """Adds the gradient of ``weight`` times the sum of the tasks' losses to ``.grad``.

        Args:
            tasks: T tasks.
            weight: multiplies each loss; 1 / T for their mean.
            prepare: makes task t ready, as an episode of one task, after seeding torch's random
                numbers for it. By default it is taken as it is.
        """
        sums = self.sums(tasks, weight, prepare)
        for parameter, found in zip(self.parameters, sums.gradients, strict=True):
            if found is not None:
                gradient = found.to(parameter.dtype)
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return sums

    def sums(
        self, tasks: Episode, weight: float, prepare: Callable[[int], Episode] | None = None
    ) -> Sums:
        """The same sums, without changing any ``.grad``."""
        return self._sums(tasks.tasks, weight, prepare or (lambda t: tasks[t : t + 1]))

    @property
    def compile_seconds(self) -> float | None:
        """What compilation took at the first use; nothing if nothing is compiled, or not yet."""
        return self.worker.compiled.seconds if self.worker.compiled else None

    def close(self) -> None:
        """Ends the threads."""
        if self.threads is not None:
            self.threads.pool.shutdown()
            self.threads = None

    def _sums(self, count: int, weight: float, prepare: Callable[[int], Episode]) -> Sums:
        start = StrategyState(self.worker.strategy)
        if count > 1 and self.at_once != 1 and self.apart is None:
            self.apart = self._keeps_apart(prepare, start)
        if self.at_once is None and count > 1:
            self.at_once = min(count, self._fitting(prepare(0), weight, start))
        if self.at_once is not None and self.at_once > 1:
            tasks = [prepare(number) for number in range(count)]
            side_by_side = self.device.type == "cpu" and not self._joins(tasks[0])
            if side_by_side and not self._copies(tasks[0], start):
                self.at_once = 1
                return self._sums(count, weight, prepare)
            before = self._random_state()
            sums, after = _add(
                self._side_by_side(tasks, weight, start)
                if side_by_side
                else self._together(tasks, weight, start)
            )
            if torch.equal(before, self._random_state()):
                after.restore(self.worker.strategy)  # another worker may have had the last task
                return sums
            self.at_once = 1  # it draws random numbers after all: start again
        return _add(self.worker(prepare(number), weight, start) for number in range(count))[0]

    def _random_state(self) -> Tensor:
        """The state of the generators that a strategy may draw from."""
        return random_state(self.device, others=self.foreign)

    def _fitting(self, task: Episode, weight: float, start: StrategyState) -> int:
        """How many tasks may run at once, from what a first one takes; its result is not used."""
        joins = self._joins(task)
        if self.device.type != "cpu" and not joins:
            return 1
        drawn, peak = self._random_state(), peak_memory(self.device)
        self.worker(task, weight, start)
        if not torch.equal(drawn, self._random_state()):
            return 1
        taken = max(1, peak_memory(self.device) - peak)
        fitting = max(1, int(min(MEMORY_SHARE * free_memory(self.device) / taken, sys.maxsize)))
        if joins:
            return fitting
        return min(torch.get_num_threads(), fitting) if self._copies(task, start) else 1

    def _copies(self, task: Episode, start: StrategyState) -> bool:
        """Whether a copy of the strategy's modules computes the same, independently of them.

        Functions stored in modules are copied without the objects they refer to (closures), and any
        state outside buffers would depend on which copy computed which task.
        """
        if self.faithful is None:
            try:
                another = self.worker.copy()
            except (AttributeError, RuntimeError, TypeError, NotImplementedError):
                self.faithful = False  # a module holds something that cannot be copied
                return False
            known = is_known(self.worker.strategy)
            self.faithful = known or self._computes_the_same(another, task, start)
        return self.faithful

    def _computes_the_same(self, another: _Worker, task: Episode, start: StrategyState) -> bool:
        own, other, seen = self.worker.plain(), another.plain(), []
        with untouched(own.strategy):
            expected = own(task, 1.0, start)
        hooks = [
            module.register_forward_pre_hook(lambda module, _: seen.append(module))
            for module in own.strategy.modules()
        ]
        try:
            with untouched(own.strategy):
                found = [other(task, 1.0, start) for _ in range(2)]
        except (ValueError, RuntimeError):  # raised only by the copy
            return False
        finally:
            for hook in hooks:
                hook.remove()
        return not seen and all(_agree([each], [expected]) for each in found)

    def _keeps_apart(self, prepare: Callable[[int], Episode], start: StrategyState) -> bool:
        """Whether two tasks in one call give the same results as one after the other.

        They do not if a network uses its whole batch, as batch normalisation does.
        """
        strategy = self.worker.strategy
        if is_known(strategy) or not self._joins(prepare(0)):
            return True
        worker = self.worker.plain()
        with untouched(strategy):
            tasks = [prepare(number) for number in range(2)]
            single = [worker(task, 1.0, start) for task in tasks]
            try:
                together = worker(Episode.joined(tasks), 1.0, start)
            except RuntimeError:
                return False
        return _agree([together], single)

    def _joins(self, task: Episode) -> bool:
        """Whether several tasks go into one call: where one leaves the processor idle."""
        small = is_small(task.support.inputs) and is_small(task.query.inputs)
        joins = (self.device.type == "cuda" or small) and not _mixes_tasks(self.worker.strategy)
        return joins and self.apart is not False

    def _together(
        self, tasks: Sequence[Episode], weight: float, start: StrategyState
    ) -> Iterator[_Result]:
        many = (self.at_once or 1) if self._joins(tasks[0]) else 1
        for first in range(0, len(tasks), many):
            yield self.worker(Episode.joined(tasks[first : first + many]), weight, start)

    def _side_by_side(
        self, tasks: Sequence[Episode], weight: float, start: StrategyState
    ) -> Iterator[_Result]:
        if self.threads is None:
            self.threads = _Threads(self.worker, self.at_once or 1)
        waiting: deque[Future[_Result]] = deque()
        cores = torch.get_num_threads()
        torch.set_num_threads(1)  # helpers of this thread would spin where tasks are to run
        try:
            for task in tasks:
                waiting.append(self.threads.submit(task, weight, start))
                if len(waiting) > 2 * self.threads.count:  # results not yet added stay few
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            torch.set_num_threads(cores)
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class _Result:
    """Of so many tasks: the sums of loss and accuracy, and the gradient of the loss's sum."""

    tasks: int
    loss: float
    accuracy: float
    gradients: Sequence[Tensor | None]
    after: StrategyState


def _agree(one: Sequence[_Result], other: Sequence[_Result]) -> bool:
    """Whether the sums of results are equal, except for rounding."""
    found, expected = (_add(results)[0] for results in (one, other))
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


def _add(results: Iterable[_Result]) -> tuple[Sums, StrategyState]:
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


def _mixes_tasks(strategy: nn.Module) -> bool:
    """Whether tasks in one call would be normalised by their joint statistics."""
    norm = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, norm) and module.training for module in strategy.modules())


class _Worker:
    """Computes tasks with a strategy's modules."""

    def __init__(
        self,
        strategy: Strategy,
        parameters: Sequence[nn.Parameter],
        autocast: Autocast,
        compiled: bool,
        turns: int,
    ) -> None:
        self.strategy = strategy
        self.turns = turns
        self.parameters = parameters
        self.autocast = autocast
        self.compiled = CompiledForward(strategy) if compiled else None

    def plain(self) -> _Worker:
        """The same modules, in full precision and not compiled."""
        return _Worker(self.strategy, self.parameters, nullcontext, False, self.turns)

    def copy(self) -> _Worker:
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
        return _Worker(own, parameters, self.autocast, self.compiled is not None, self.turns)

    def __call__(self, task: Episode, weight: float, start: StrategyState) -> _Result:
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
        return _Result(number, number * loss.item(), accuracy, gradients, after)

    def _loss(self, task: Episode) -> LossAndLogits:
        if self.turns == 1:
            return self.strategy.loss(task)
        assert isinstance(self.strategy, EmbeddingStrategy)  # see check_turns
        return self.strategy.loss_of_turns(task, self.turns)


def _accuracy(logits: Tensor | None, targets: Tensor) -> float:
    """The share of right answers; not a number if there are no logits of the targets."""
    if logits is None or targets.is_floating_point() or logits.shape[:2] != targets.shape:
        return float("nan")
    return float((logits.argmax(-1) == targets).float().mean())


class _Threads:
    """Threads that share the cores, and as many workers."""

    def __init__(self, worker: _Worker, count: int) -> None:
        self.count = count
        self.idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
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

    def submit(self, task: Episode, weight: float, start: StrategyState) -> Future[_Result]:
        return self.pool.submit(self._run, task, weight, start)

    def _run(self, task: Episode, weight: float, start: StrategyState) -> _Result:
        worker = self.idle.get()
        try:
            return worker(task, weight, start)
        finally:
            self.idle.put(worker)
