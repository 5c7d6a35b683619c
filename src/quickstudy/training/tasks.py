"""The gradient of a meta-batch: its tasks one by one, one on each core, or many in one call."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from quickstudy.compute.memory import free_memory, peak_memory
from quickstudy.episodes import Episode
from quickstudy.strategies import Strategy
from quickstudy.strategies.foreign import is_known
from quickstudy.strategies.functional import is_small
from quickstudy.strategies.state import StrategyState, random_state, untouched
from quickstudy.training.workers import Autocast, Result, Sums, Threads, Worker, added, agree

MEMORY_SHARE = 0.5
"""Share of the free memory that is available to tasks side by side."""


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
        strategy: the strategy, on the device where it is computed.
        autocast: enters the precision in which losses are computed.
        at_once: tasks side by side or in one call; by default as many as cores and memory allow.
        compiled: compile the strategy's forward pass.
        support_rotations: how often the examples of a task take turns at being its support.
    """

    def __init__(
        self,
        strategy: Strategy,
        autocast: Autocast = nullcontext,
        at_once: int | None = None,
        compiled: bool = False,
        support_rotations: int = 1,
    ) -> None:
        self.parameters = [p for p in strategy.parameters() if p.requires_grad]
        self.device = next((p.device for p in self.parameters), torch.device("cpu"))
        self.at_once = at_once
        self.worker = Worker(strategy, self.parameters, autocast, compiled, support_rotations)
        self.apart: bool | None = None  # whether tasks in one call are independent
        self.faithful: bool | None = None  # whether a copy of the strategy computes the same
        self.foreign = not is_known(strategy)
        self.threads: Threads | None = None

    def sums(
        self, tasks: Episode, weight: float, prepare: Callable[[int], Episode] | None = None
    ) -> Sums:
        """The gradient of ``weight`` times the sum of the tasks' losses; no ``.grad`` changes.

        Args:
            tasks: T tasks.
            weight: multiplies each loss; 1 / T for their mean.
            prepare: makes task t ready, as an episode of one task, after seeding torch's random
                numbers for it. By default it is taken as it is.
        """
        return self._sums(tasks.tasks, weight, prepare or (lambda t: tasks[t : t + 1]))

    @property
    def compile_seconds(self) -> float | None:
        """Seconds that compilation took at the first use; None if nothing is compiled."""
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
            sums, after = added(
                self._side_by_side(tasks, weight, start)
                if side_by_side
                else self._together(tasks, weight, start)
            )
            if torch.equal(before, self._random_state()):
                after.restore(self.worker.strategy)  # another worker can have taken the last task
                return sums
            self.at_once = 1  # it draws random numbers after all: start again
        return added(self.worker(prepare(number), weight, start) for number in range(count))[0]

    def _random_state(self) -> Tensor:
        """The state of the generators that a strategy can draw from."""
        return random_state(self.device, others=self.foreign)

    def _fitting(self, task: Episode, weight: float, start: StrategyState) -> int:
        """The number of tasks that can run at once, from the memory that a first one takes."""
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

    def _computes_the_same(self, another: Worker, task: Episode, start: StrategyState) -> bool:
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
        return not seen and all(agree([each], [expected]) for each in found)

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
        return agree([together], single)

    def _joins(self, task: Episode) -> bool:
        """Whether several tasks go into one call: where one leaves the processor idle."""
        small = is_small(task.support.inputs) and is_small(task.query.inputs)
        joins = (self.device.type == "cuda" or small) and not _mixes_tasks(self.worker.strategy)
        return joins and self.apart is not False

    def _together(
        self, tasks: Sequence[Episode], weight: float, start: StrategyState
    ) -> Iterator[Result]:
        many = (self.at_once or 1) if self._joins(tasks[0]) else 1
        for first in range(0, len(tasks), many):
            yield self.worker(Episode.joined(tasks[first : first + many]), weight, start)

    def _side_by_side(
        self, tasks: Sequence[Episode], weight: float, start: StrategyState
    ) -> Iterator[Result]:
        if self.threads is None:
            self.threads = Threads(self.worker, self.at_once or 1)
        waiting: deque[Future[Result]] = deque()
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


def _mixes_tasks(strategy: nn.Module) -> bool:
    """Whether tasks in one call would be normalised by their joint statistics."""
    norm = nn.modules.batchnorm._BatchNorm
    return any(isinstance(module, norm) and module.training for module in strategy.modules())
