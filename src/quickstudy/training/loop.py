"""The loop of one training run: its steps, validations and end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import Any

import numpy as np
import torch

from quickstudy.compute.allocator import keep_freed_memory
from quickstudy.compute.launch import launch
from quickstudy.compute.ranks import (
    barrier,
    gathered,
    rank,
    ranks,
    same_everywhere,
    sum_over_ranks,
    zeros_for_none,
)
from quickstudy.compute.signals import StopRequest, stop_requests
from quickstudy.compute.watch import Watch
from quickstudy.datasets import ClassDataset
from quickstudy.encoders.cpu.layout import use_channels_last
from quickstudy.encoders.task_normalization import check_materialized
from quickstudy.episodes import Episode, TaskSource
from quickstudy.errors import InputError, MissingFileError
from quickstudy.evaluation.arguments import check_source
from quickstudy.evaluation.outcomes import mean_and_interval, outcomes_on
from quickstudy.evaluation.protocol import Protocol
from quickstudy.runs.history import Row
from quickstudy.runs.run import Run, RunDirectory
from quickstudy.saving.directory_lock import locked
from quickstudy.strategies import Strategy
from quickstudy.strategies.state import StrategyState
from quickstudy.training.callbacks import Callback
from quickstudy.training.checks import (
    check_augmentation,
    check_rotations,
    check_same_parameters,
    check_validation,
)
from quickstudy.training.optimizer import learning_rate_factor, make_optimizer
from quickstudy.training.progress import TrainingProgress
from quickstudy.training.randomness import seed_all
from quickstudy.training.run_state import RunState
from quickstudy.training.settings import Settings
from quickstudy.training.sources import augmented, task_source
from quickstudy.training.task_memory import deep_loop_warning, has_deep_loop
from quickstudy.training.tasks import MetaGradient


class TrainingLoop:
    """One call of :meth:`Trainer.fit`; its arguments are explained there."""

    def __init__(
        self,
        settings: Settings,
        strategy: Strategy,
        train: ClassDataset | TaskSource,
        validation: ClassDataset | TaskSource | None,
        out: str | os.PathLike[str] | None,
        config: Mapping[str, Any] | None,
        until: int | None = None,
        callbacks: tuple[Callback, ...] = (),
    ) -> None:
        keep_freed_memory()
        self.settings = settings
        self.until = until
        self.strategy = strategy
        self.validation = validation
        check_materialized(strategy)
        check_augmentation(settings.augmentation, train.inputs)
        check_rotations(strategy, settings.support_rotations)
        if validation is not None:
            check_validation(train, validation)
        self.directory = None if out is None else RunDirectory(out)
        self.sampler = task_source(strategy, train, settings)
        if strategy.episodic:
            strategy.check_ways(settings.ways if isinstance(train, ClassDataset) else train.ways)
        self.validation_protocol = self._protocol()
        self.fabric = launch(
            settings.accelerator, settings.devices, settings.nodes, settings.precision
        )
        self.rank, self.ranks = rank(), ranks()
        self.callbacks = callbacks if self.rank == 0 else ()
        self._place_strategy()
        learned = {n: p for n, p in strategy.named_parameters() if p.requires_grad}
        self.learned = list(learned)
        self.optimizer = make_optimizer(
            str(settings.optimizer),
            [*learned.values()],
            settings.learning_rate,
            settings.weight_decay,
            settings.optimizer_options,
        )
        # Processes that share this machine's cores leave them to each other.
        at_once = 1 if settings.devices > 1 and self.fabric.device.type == "cpu" else None
        self.meta_gradient = MetaGradient(
            strategy,
            self.fabric.autocast,
            settings.tasks_at_once or at_once,
            settings.compiled,
            settings.support_rotations,
        )
        self.state = RunState(
            settings,
            strategy,
            self.optimizer,
            self.learned,
            train,
            validation,
            self.directory,
            config or {},
        )
        self.progress = self.state.progress
        self.latest: dict[str, float | None] = {}  # measurements of the latest step
        self.stop_request = StopRequest()  # of this process
        self.interrupted = False  # what the ranks agreed on
        self.looked = False  # at what a first pass leaves

    def _protocol(self) -> Protocol | None:
        """The protocol of validation; finds a mismatch before training starts."""
        settings = self.settings
        if isinstance(self.validation, ClassDataset):
            return Protocol.suited(
                self.strategy,
                self.validation,
                settings.validation_ways,
                settings.validation_shots,
                settings.validation_queries,
                settings.ways,
                settings.shots,
            )
        if self.validation is not None:
            check_source(self.strategy, self.validation, to_train=False)
            self.strategy.check_ways(self.validation.ways)
        return None

    def _place_strategy(self) -> None:
        self.strategy.to(self.fabric.device).train()  # which may freeze some of its parts
        use_channels_last(self.strategy)
        same_everywhere(self.strategy)  # however φ was initialised

    def _first_task(self) -> Episode:
        return self.sampler.episode(0, slice(1)).to(self.fabric.device)

    # -- the run ------------------------------------------------------------------------------

    def run(self, resume: bool) -> Run:
        """Trains to the end, or until somebody asks to stop."""
        with Watch(), ExitStack() as stack:
            self.stop_request = stack.enter_context(stop_requests())
            self.state.describe(self._first_task(), self.fabric.autocast)
            self._enter_directory(stack, resume)
            return self._run(resume)

    def _enter_directory(self, stack: ExitStack, resume: bool) -> None:
        """Keeps other processes out of the run directory until ``stack`` is closed."""
        problem = ""
        if resume and self.directory is not None and not self.directory.can_be_resumed():
            raise MissingFileError(f"There is no run to resume in {self.directory.path}.")
        if self.directory is not None and self.rank == 0:
            try:
                stack.enter_context(locked(self.directory.path))
            except (ValueError, OSError) as error:
                problem = str(error)
        if problem := self.fabric.broadcast(problem):  # every rank ends
            raise InputError(problem)

    def _run(self, resume: bool) -> Run:
        self.state.resume() if resume else self.state.begin()
        settings, progress = self.settings, self.progress
        started = time.perf_counter() - progress["seconds"]
        events = self.state.open_events()
        shown = settings.show_progress and self.rank == 0
        show = TrainingProgress(settings.steps, progress["step"], shown)
        logged = (progress["step"], progress["seconds"])
        try:
            with show:
                if progress["step"]:
                    show.say(f"Resuming after step {progress['step']}.")
                if warning := self._memory_warning():
                    show.say(warning)
                progress["finished"] = False
                while not (self.interrupted or self._ended()):
                    compiled = self.meta_gradient.compile_seconds
                    self._step(time.perf_counter() - started)
                    if compiled is None and (took := self.meta_gradient.compile_seconds):
                        show.say(f"Compiled in {took:.0f} s.")
                    step = progress["step"]
                    show.step(step)
                    ended = self._ended()
                    validates = self.validation is not None and (
                        step % settings.validate_every == 0 or ended
                    )
                    score = self._validate() if validates else None
                    better = score is not None and self.state.judge(score[0])
                    row: Row | None = None
                    if validates or step % settings.log_every == 0 or ended:
                        row = self.state.log(score, events)
                        elapsed = progress["seconds"] - logged[1]
                        tasks = (step - logged[0]) * settings.tasks
                        show.log(row, tasks / max(elapsed, 1e-9))
                        logged = (step, progress["seconds"])
                    if better:
                        self.state.keep_best()
                    if validates or step % settings.checkpoint_every == 0:
                        self.state.save()
                    self._call_back(row if validates else None)
                progress["finished"] = self._complete()
                self.state.save()
                self._report_end(show)
        finally:
            self.meta_gradient.close()
            if events is not None:
                events.close()
        barrier()  # rank 0 has written the best
        return self.state.finished_run()

    def _call_back(self, validation: Row | None) -> None:
        """Calls the callbacks after a step; an error in one ends the run with its state saved."""
        try:
            for callback in self.callbacks:
                callback.on_step(self.progress["step"], dict(self.latest))
                if validation is not None:
                    callback.on_validation(self.progress["step"], dict(validation))
        except BaseException:
            self.state.save()
            raise

    def _report_end(self, show: TrainingProgress) -> None:
        path = self.directory.path if self.directory else None
        show.end(self.progress, self.interrupted, path)
        values = {name: self.progress[name] for name in ("best_accuracy", "best_step", "seconds")}
        for callback in self.callbacks:
            callback.on_end(
                self.progress["step"], values | {"finished": float(self.progress["finished"])}
            )

    def _memory_warning(self) -> str:
        """The warning before a run whose inner loop will not fit in memory; empty if it will."""
        if not has_deep_loop(self.strategy):
            return ""
        state = StrategyState(self.strategy)
        with torch.random.fork_rng(), self.fabric.autocast():
            warning = deep_loop_warning(
                self.strategy.train(), self._first_task(), self.fabric.device
            )
        state.restore(self.strategy)
        return warning

    def _complete(self) -> bool:
        settings, progress = self.settings, self.progress
        return bool(
            progress["step"] >= settings.steps
            or (settings.max_minutes and progress["seconds"] >= 60 * settings.max_minutes)
            or (settings.patience is not None and progress["stale"] >= settings.patience)
        )

    def _ended(self) -> bool:
        return self._complete() or (self.until is not None and self.progress["step"] >= self.until)

    def _step(self, seconds: float) -> None:
        """One update of φ from this rank's share of the meta-batch, averaged over ranks."""
        settings, step = self.settings, self.progress["step"]
        done = step / settings.steps
        if settings.max_minutes:
            done = max(done, self.progress["seconds"] / (60 * settings.max_minutes))
        factor = learning_rate_factor(settings.schedule, done, step, settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor

        self.strategy.train()
        share = self.sampler.episode(step, slice(self.rank, None, self.ranks))
        share = share.to(self.fabric.device)

        place, others = self.fabric.device, self.meta_gradient.foreign

        def prepare(number: int) -> Episode:
            seed_all(place, settings.seed, step, self.rank + number * self.ranks, others=others)
            return augmented(share[number : number + 1], settings.augmentation)

        learned = self.meta_gradient.parameters
        sums = self.meta_gradient.sums(share, 1 / settings.tasks, prepare)
        if not self.looked:
            check_same_parameters(self.strategy, self.learned)
            self.looked = True
        gradients = zeros_for_none(sums.gradients, learned)
        numbers = [
            sums.loss,
            sums.accuracy,
            float(self.stop_request.made),
            seconds * (self.rank == 0),
        ]
        numbers = sum_over_ranks([*gradients, *sums.averages], numbers, self.fabric.device)
        averages = [b for b in self.strategy.buffers() if b.is_floating_point()]
        for buffer, total in zip(averages, sums.averages, strict=True):
            buffer.copy_(total / settings.tasks)
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        limit = torch.inf if settings.clip_norm is None else settings.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(learned, limit)
        if not (np.isfinite(numbers[0]) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"The loss or its gradient is not finite in step {step + 1}; φ was left as it was "
                "before. A smaller learning rate, clip_norm or warm-up may help."
            )
        self.optimizer.step()
        if self.state.average is not None:
            self.state.average.update(self.strategy, step + 1)
        self._count(numbers, step + 1)

    def _count(self, numbers: list[float], step: int) -> None:
        """Records the sums over ranks of a step: loss, accuracy, requests to stop, seconds."""
        loss, accuracy = numbers[0] / self.settings.tasks, numbers[1] / self.settings.tasks
        window = self.progress["window"]
        window[0] += loss
        window[1] += accuracy
        window[2] += 1
        self.interrupted = numbers[2] > 0
        self.progress["seconds"] = numbers[3]
        self.progress["step"] = step
        self.latest = {
            "loss": loss,
            "accuracy": None if np.isnan(accuracy) else accuracy,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": numbers[3],
        }

    def _validate(self) -> tuple[float, float]:
        """The mean score on validation tasks and its interval; ranks share the episodes."""
        assert self.validation is not None
        average = self.state.average
        with average.in_place(self.strategy) if average else nullcontext():
            own = outcomes_on(
                self.strategy,
                self.validation,
                self.validation_protocol,
                episodes=self.settings.validation_episodes,
                seed=self.settings.seed,
                device=self.fabric.device,
            )
            scores = gathered([outcome.scores for outcome in own], self.fabric.device)
        return mean_and_interval(scores)
