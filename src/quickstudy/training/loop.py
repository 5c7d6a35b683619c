"""The loop of one training run: its state, and the steps that change it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

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
from quickstudy.encoders.encoder import use_channels_last
from quickstudy.encoders.task_normalization import check_materialized
from quickstudy.episodes import Episode, Examples, TaskSource
from quickstudy.episodes.episode import unchecked_episode
from quickstudy.errors import InputError, MissingFileError
from quickstudy.evaluation.arguments import check_source
from quickstudy.evaluation.outcomes import mean_and_interval, validated
from quickstudy.evaluation.protocol import Protocol
from quickstudy.inputs import described_inputs
from quickstudy.runs.checkpoint import Checkpoint, optimizer_tensors
from quickstudy.runs.history import Row
from quickstudy.runs.identity import identity
from quickstudy.runs.run import Run, RunDirectory, take_over
from quickstudy.runs.same_run import check_same_run
from quickstudy.runs.verifying import answers_to, verified
from quickstudy.saving.description import Description
from quickstudy.saving.directory_lock import locked
from quickstudy.saving.rebuilding import frozen_names
from quickstudy.strategies import Strategy
from quickstudy.strategies.state import StrategyState
from quickstudy.training.averaging import MovingAverage, copied
from quickstudy.training.checks import (
    check_augmentation,
    check_same_parameters,
    check_turns,
    check_validation,
)
from quickstudy.training.events import Events
from quickstudy.training.optimizer import learning_rate_factor, make_optimizer
from quickstudy.training.progress import TrainingProgress
from quickstudy.training.randomness import seed_all
from quickstudy.training.sources import task_source
from quickstudy.training.task_memory import deep_loop_warning, has_deep_loop
from quickstudy.training.tasks import MetaGradient

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer


class Fit:
    """One call of :meth:`Trainer.fit`: its state, and the steps that change it."""

    def __init__(
        self,
        settings: Trainer,
        strategy: Strategy,
        train: ClassDataset | TaskSource,
        validation: ClassDataset | TaskSource | None,
        out: str | os.PathLike[str] | None,
        config: Mapping[str, Any] | None,
        until: int | None = None,
    ) -> None:
        keep_freed_memory()
        self.settings = settings
        self.until = until
        self.strategy = strategy
        self.train = train
        self.validation = validation
        self.config: Mapping[str, Any] = config or {}
        self.inputs = train.inputs
        check_materialized(strategy)
        check_augmentation(settings.augmentation, self.inputs)
        check_turns(strategy, settings.turns)
        self.classes: dict[str, list[str]] = {"train": []}
        if isinstance(train, ClassDataset):
            self.classes["train"] = list(train.class_names)
        if validation is not None:
            check_validation(train, validation)
        if isinstance(validation, ClassDataset):
            self.classes["validation"] = list(validation.class_names)
        self.directory = None if out is None else RunDirectory(out)
        self.description: Description | None = None
        self.sampler = task_source(strategy, train, settings)
        if strategy.episodic:
            strategy.check_ways(settings.ways if isinstance(train, ClassDataset) else train.ways)
        self.validation_protocol: Protocol | None = None
        if isinstance(validation, ClassDataset):  # find a mismatch before training starts
            self.validation_protocol = Protocol.suited(
                strategy,
                validation,
                settings.validation_ways,
                settings.validation_shots,
                settings.validation_queries,
                settings.ways,
                settings.shots,
            )
        elif validation is not None:
            check_source(strategy, validation, to_train=False)
            strategy.check_ways(validation.ways)
        self.fabric = launch(
            settings.accelerator, settings.devices, settings.nodes, settings.precision
        )
        self.rank, self.ranks = rank(), ranks()
        self._place_strategy()
        learned = {n: p for n, p in strategy.named_parameters() if p.requires_grad}
        self.learned = list(learned)
        self.optimizer = make_optimizer(
            settings.optimizer, [*learned.values()], settings.learning_rate, settings.weight_decay
        )
        # Processes that share this machine's cores leave them to each other.
        at_once = 1 if settings.devices > 1 and self.fabric.device.type == "cpu" else None
        self.meta_gradient = MetaGradient(
            strategy,
            self.fabric.autocast,
            settings.tasks_at_once or at_once,
            settings.compiled,
            settings.turns,
        )
        self.average: MovingAverage | None = None  # of φ, once it is there
        self.progress: dict[str, Any] = {
            "step": 0,
            "seconds": 0.0,
            "best_accuracy": None,
            "best_step": 0,
            "stale": 0,
            "window": [0.0, 0.0, 0],
            "finished": False,
        }
        self.history: list[Row] = []
        self.validated: tuple[float, float] | None = None  # since the latest row
        self.best_model: dict[str, Tensor] | None = None  # of a run that is not saved
        self.stop_request = StopRequest()  # of this process
        self.interrupted = False  # what the ranks agreed on
        self.looked = False  # at what a first pass leaves

    def _default_config(self) -> dict[str, Any]:
        return {"strategy": self.description} | self._settings()

    def _place_strategy(self) -> None:
        self.strategy.to(self.fabric.device).train()  # which may freeze some of its parts
        use_channels_last(self.strategy)
        same_everywhere(self.strategy)  # however φ was initialised

    def _describe(self) -> None:
        """Prepares the run's description for its files, after checking that it can be loaded."""
        if self.directory is None:
            return
        self.saved_inputs = described_inputs(self.inputs)
        task = self.sampler.episode(0, slice(1)).to(self.fabric.device)
        self.description = verified(self.strategy, answers_to(task, self.fabric.autocast))
        self.config = self.config or self._default_config()
        self.data = {"train": identity(self.train)}
        if self.validation is not None:
            self.data["validation"] = identity(self.validation)

    # -- the run ------------------------------------------------------------------------------

    def run(self, resume: bool) -> Run:
        with Watch(), ExitStack() as stack:
            self.stop_request = stack.enter_context(stop_requests())
            self._describe()
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
        self._take_up() if resume else self._begin()
        settings, progress = self.settings, self.progress
        started = time.perf_counter() - progress["seconds"]
        events = self._open_events()
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
                    told = self.meta_gradient.compile_seconds
                    self._step(time.perf_counter() - started)
                    if told is None and (took := self.meta_gradient.compile_seconds):
                        show.say(f"Compiled in {took:.0f} s.")
                    step = progress["step"]
                    show.step(step)
                    ended = self._ended()
                    validated = self.validation is not None and (
                        step % settings.validate_every == 0 or ended
                    )
                    better = validated and self._validate()
                    if validated or step % settings.log_every == 0 or ended:
                        row = self._log(events)
                        elapsed = progress["seconds"] - logged[1]
                        tasks = (step - logged[0]) * settings.tasks
                        show.log(row, tasks / max(elapsed, 1e-9))
                        logged = (step, progress["seconds"])
                    if better:
                        self._keep_best()
                    if validated or step % settings.checkpoint_every == 0:
                        self._save()
                progress["finished"] = self._complete()
                self._save()
                self._say_the_end(show)
        finally:
            self.meta_gradient.close()
            if events is not None:
                events.close()
        barrier()  # rank 0 has written the best
        if self.directory is not None and progress["best_accuracy"] is not None:
            self.directory.read_best().restore_model(self.strategy)
        elif self.best_model is not None:
            self.strategy.load_state_dict(self.best_model)
        elif self.average is not None:
            self.strategy.load_state_dict(self.average.state)
        return Run(
            self.strategy.eval(),
            self.inputs,
            self.directory.path if self.directory else None,
            dict(self.config) if self.directory else self._settings(),
            progress,
            self.history,
            self.classes,
        )

    def _memory_warning(self) -> str:
        """What to say before a run whose inner loop will not fit in memory; nothing if it will."""
        if not has_deep_loop(self.strategy):
            return ""
        task = self.sampler.episode(0, slice(1)).to(self.fabric.device)
        state = StrategyState(self.strategy)
        with torch.random.fork_rng(), self.fabric.autocast():
            warning = deep_loop_warning(self.strategy.train(), task, self.fabric.device)
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
            return self._augmented(share[number : number + 1])

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
        if self.average is not None:
            self.average.update(self.strategy, step + 1)

        window = self.progress["window"]
        window[0] += numbers[0] / settings.tasks
        window[1] += numbers[1] / settings.tasks
        window[2] += 1
        self.interrupted = numbers[2] > 0
        self.progress["seconds"] = numbers[3]
        self.progress["step"] = step + 1

    def _augmented(self, task: Episode) -> Episode:
        augmentation = self.settings.augmentation
        if not augmentation.changes:
            return task
        support, query = (
            Examples(augmentation(e.inputs.flatten(0, 1)).view_as(e.inputs), e.targets)
            for e in (task.support, task.query)
        )
        return unchecked_episode(support, query, task.ways)

    def _validate(self) -> bool:
        """Measures the score on validation tasks, each rank on its share of the episodes.

        Returns:
            Whether it is the best so far.
        """
        assert self.validation is not None
        with self.average.in_place(self.strategy) if self.average else nullcontext():
            own = validated(
                self.strategy,
                self.validation,
                self.validation_protocol,
                episodes=self.settings.validation_episodes,
                seed=self.settings.seed,
                device=self.fabric.device,
            )
            scores = gathered([outcome.scores for outcome in own], self.fabric.device)
        self.validated = mean_and_interval(scores)
        mean = self.validated[0]
        best = self.progress["best_accuracy"]
        if best is not None and mean <= best:
            self.progress["stale"] += 1
            return False
        self.progress |= {"best_accuracy": mean, "best_step": self.progress["step"], "stale": 0}
        return True

    # -- what is written ----------------------------------------------------------------------

    def _log(self, events: Events | None) -> Row:
        loss, accuracy, count = self.progress["window"]
        self.progress["window"] = [0.0, 0.0, 0]
        validated, self.validated = self.validated, None
        mean = accuracy / max(1, count)
        row: Row = {
            "step": self.progress["step"],
            "loss": loss / max(1, count),
            "accuracy": None if np.isnan(mean) else mean,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "validation_accuracy": validated[0] if validated else None,
            "validation_ci95": validated[1] if validated else None,
            "seconds": round(self.progress["seconds"], 3),
        }
        self.history.append(row)
        if self.directory is not None and self.rank == 0:
            self.directory.append_metrics(row)
            if events is not None:
                events.add(row)
        return row

    def _settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings)

    def _model(self) -> dict[str, Tensor]:
        """φ as it is to be used."""
        return self.strategy.state_dict() if self.average is None else self.average.state

    def _checkpoint(self) -> Checkpoint:
        assert self.description is not None
        return Checkpoint(
            self.description,
            self.saved_inputs,
            self._model(),
            optimizer_tensors(self.optimizer, self.learned),
            self.progress,
            self._settings(),
            self.classes,
            dict(self.config),
            self.history,
            raw={} if self.average is None else self.strategy.state_dict(),
            frozen=frozen_names(self.strategy),
            data=self.data,
        )

    def _keep_best(self) -> None:
        if self.directory is None:
            self.best_model = copied(self._model())
        elif self.rank == 0:
            self._checkpoint().save(self.directory.best)

    def _save(self) -> None:
        if self.directory is not None and self.rank == 0:
            self._checkpoint().save(self.directory.last, keep=self.directory.previous)

    def _begin(self) -> None:
        """Starts with the φ that is there or that another run learned, and makes the directory."""
        directory = self.directory
        if directory is not None and directory.holds_a_run():
            raise InputError(
                f"{directory.path} holds a run already. Go on with it (--resume {directory.path}; "
                "in Python resume=True), or choose another folder."
            )
        if start := self.settings.start_from:
            # Nor may its classes be tested on.
            to_learn = self.settings.steps > 0
            self.classes["start_from"] = take_over(self.strategy, start, to_learn)
        self._begin_average()
        barrier()  # all ranks have looked
        if directory is not None and self.rank == 0:
            directory.write_config(self.config)
            self._save()
            directory.write_metrics([])
        barrier()

    def _begin_average(self) -> None:
        """Averages from what the strategy is now."""
        if self.settings.ema is not None:
            self.average = MovingAverage(self.strategy, self.settings.ema)

    def _take_up(self) -> None:
        """Goes on with the run that the directory holds."""
        directory = self.directory
        if directory is None:
            raise InputError("Resuming needs the run directory: say which with `out`.")
        saved = directory.newest(say=self.rank == 0)
        if saved is None:
            return self._begin()  # it was killed before it wrote a first checkpoint
        self._restore(saved, directory)
        barrier()
        if self.rank == 0:
            directory.mend(saved)
            directory.write_config(self.config)  # with what a resumed run may change
        barrier()
        return None

    def _restore(self, saved: Checkpoint, directory: RunDirectory) -> None:
        now = self._checkpoint()
        check_same_run(saved, now, directory.path)
        saved.restore_model(self.strategy)
        self._begin_average()
        if self.average is not None:
            self.strategy.load_state_dict(saved.raw)
        saved.restore_optimizer(self.optimizer, self.learned)
        self.progress |= saved.progress
        self.classes = saved.classes
        self.history = saved.history

    def _open_events(self) -> Events | None:
        if self.directory is None or self.rank != 0:
            return None
        return Events(self.directory.path, self.progress["step"])

    def _say_the_end(self, show: TrainingProgress) -> None:
        progress = self.progress
        if self.interrupted or not progress["finished"]:
            show.say(f"Stopped after step {progress['step']}.")
        elif progress["step"] < self.settings.steps:
            show.say(f"Ended after step {progress['step']}, before all {self.settings.steps}.")
        if progress["best_accuracy"] is not None:
            best = progress["best_accuracy"]
            found = f"accuracy {best:.2%}" if best >= 0 else f"squared error {-best:.4g}"
            show.say(f"Best validation {found}, after step {progress['best_step']}.")
        if self.directory is not None:
            show.say(f"The run is in {self.directory.path}.")
