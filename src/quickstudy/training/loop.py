"""The loop of one training run: its state, and the steps that change it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.datasets import ClassDataset
from quickstudy.encoders.encoder import use_channels_last
from quickstudy.episodes import BatchSampler, Episode, EpisodeSampler, Examples, TaskSource
from quickstudy.strategies import Strategy
from quickstudy.training.allocator import keep_freed_memory
from quickstudy.training.checkpoint import Checkpoint, optimizer_tensors
from quickstudy.training.checks import check_augmentation, check_same_run, check_validation
from quickstudy.training.description import Description, describe
from quickstudy.training.lock import locked
from quickstudy.training.memory import deep_loop_bytes, free_memory, has_deep_loop
from quickstudy.training.optimizer import learning_rate_factor, make_optimizer
from quickstudy.training.progress import TrainingProgress
from quickstudy.training.ranks import gradients, launch, same_everywhere, sum_over_ranks
from quickstudy.training.run import Run, RunDirectory, checkpoint_file
from quickstudy.training.signals import StopRequest, stop_requests
from quickstudy.training.tasks import MetaGradient, StrategyState
from quickstudy.training.validation import interval_of_moments, outcomes

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer


class Fit:
    """One call of :meth:`Trainer.fit`: its state, and the steps that change it."""

    def __init__(
        self,
        settings: Trainer,
        strategy: Strategy,
        train: ClassDataset | TaskSource,
        validation: ClassDataset | None,
        out: str | os.PathLike[str] | None,
        config: Mapping[str, Any] | None,
    ) -> None:
        keep_freed_memory()
        self.settings = settings
        self.strategy = strategy
        self.validation = validation
        self.inputs = train.inputs
        check_augmentation(settings.augmentation, self.inputs)
        self.classes: dict[str, list[str]] = {"train": []}
        if isinstance(train, ClassDataset):
            self.classes["train"] = list(train.class_names)
        if validation is not None:
            self.classes["validation"] = list(validation.class_names)
            check_validation(train, validation)
        self.directory = None if out is None else RunDirectory(out)
        self.description: Description | None = None
        if self.directory is not None:
            self.description = describe(strategy)
            self.config = config or self._default_config()
        self.sampler = task_source(strategy, train, settings)
        if strategy.episodic:
            strategy.check_ways(settings.ways if isinstance(train, ClassDataset) else train.ways)
        self.validation_protocol: dict[str, Any] = {
            "ways": settings.validation_ways or strategy.usual_ways(settings.ways),
            "shots": settings.validation_shots or settings.shots,
            "queries": settings.validation_queries,
        }
        if validation is not None:  # what does not fit is better found now than after an hour
            strategy.check_ways(self.validation_protocol["ways"])
            EpisodeSampler(validation, **self.validation_protocol)
        self.fabric = launch(settings)
        self.rank, self.ranks = self.fabric.global_rank, self.fabric.world_size
        self._place_strategy()
        parameters = [p for p in strategy.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(
            settings.optimizer, parameters, settings.learning_rate, settings.weight_decay
        )
        # Processes that share this machine's cores leave them to each other.
        at_once = 1 if settings.devices > 1 and self.fabric.device.type == "cpu" else None
        self.meta_gradient = MetaGradient(
            strategy, self.fabric.autocast, settings.tasks_at_once or at_once, settings.compiled
        )
        self.progress: dict[str, Any] = {
            "step": 0,
            "seconds": 0.0,
            "best_accuracy": None,
            "best_step": 0,
            "stale": 0,
            "window": [0.0, 0.0, 0],
            "finished": False,
        }
        self.history: list[dict[str, float | None]] = []
        self.validated: tuple[float, float] | None = None  # since the latest row
        self.best_model: dict[str, Tensor] | None = None  # of a run that is not saved
        self.stop_request = StopRequest()  # of this process
        self.interrupted = False  # what the ranks agreed on

    def _default_config(self) -> dict[str, Any]:
        return {"strategy": self.description} | self._settings()

    def _place_strategy(self) -> None:
        self.strategy.to(self.fabric.device)
        use_channels_last(self.strategy)
        same_everywhere(self.fabric, self.strategy)  # however φ was initialised

    # -- the run ------------------------------------------------------------------------------

    def run(self, resume: bool) -> Run:
        with ExitStack() as stack:
            self._enter_directory(stack)
            return self._run(resume)

    def _enter_directory(self, stack: ExitStack) -> None:
        """Keeps other processes out of the run directory until ``stack`` is closed."""
        problem = ""
        if self.directory is not None and self.rank == 0:
            try:
                stack.enter_context(locked(self.directory.path))
            except ValueError as error:
                problem = str(error)
        if problem := self.fabric.broadcast(problem):  # every rank ends
            raise ValueError(problem)

    def _run(self, resume: bool) -> Run:
        self._open_directory(resume)
        if self.settings.start_from and not resume:
            self._take_over(self.settings.start_from)
        settings, progress = self.settings, self.progress
        started = time.perf_counter() - progress["seconds"]
        board = self._open_tensorboard()
        shown = settings.show_progress and self.rank == 0
        show = TrainingProgress(settings.steps, progress["step"], shown)
        logged = (progress["step"], progress["seconds"])
        try:
            with show, stop_requests() as self.stop_request:
                if progress["step"]:
                    show.say(f"Resuming after step {progress['step']}.")
                if warning := self._memory_warning():
                    show.say(warning)
                progress["finished"] = False
                while not (self.interrupted or self._complete()):
                    told = self.meta_gradient.compile_seconds
                    self._step(time.perf_counter() - started)
                    if told is None and (took := self.meta_gradient.compile_seconds):
                        show.say(f"Compiled in {took:.0f} s.")
                    step = progress["step"]
                    show.step(step)
                    ended = self._complete()
                    validated = self.validation is not None and (
                        step % settings.validate_every == 0 or ended
                    )
                    if validated:
                        self._validate()
                    if validated or step % settings.log_every == 0 or ended:
                        row = self._log(board)
                        elapsed = progress["seconds"] - logged[1]
                        tasks = (step - logged[0]) * settings.tasks
                        show.log(row, tasks / max(elapsed, 1e-9))
                        logged = (step, progress["seconds"])
                    if validated or step % settings.checkpoint_every == 0:
                        self._save()
                progress["finished"] = self._complete()
                self._save()
                self._say_the_end(show)
        finally:
            self.meta_gradient.close()
            if board is not None:
                board.close()
        self.fabric.barrier()  # rank 0 has written the best
        if self.directory is not None and progress["best_accuracy"] is not None:
            Checkpoint.load(self.directory.best).restore_model(self.strategy)
        elif self.best_model is not None:
            self.strategy.load_state_dict(self.best_model)
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
            needed = deep_loop_bytes(self.strategy.train(), task)
        state.restore(self.strategy)
        free = free_memory(self.fabric.device)
        if needed is None or needed < free:
            return ""
        return (
            f"A task will hold about {needed / 2**30:.1f} GiB until its gradient is computed, and "
            f"{free / 2**30:.1f} GiB are free: this run is likely to end for want of memory. Fewer "
            "inner steps hold less, and so does recompute (--strategy.recompute true)."
        )

    def _complete(self) -> bool:
        settings, progress = self.settings, self.progress
        return bool(
            progress["step"] >= settings.steps
            or (settings.max_minutes and progress["seconds"] >= 60 * settings.max_minutes)
            or (settings.patience is not None and progress["stale"] >= settings.patience)
        )

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

        def prepare(number: int) -> Episode:
            _seed_torch(settings.seed, step, self.rank + number * self.ranks, self.fabric.device)
            return self._augmented(share[number : number + 1])

        averages = [b for b in self.strategy.buffers() if b.is_floating_point()]
        self.optimizer.zero_grad()
        sums = self.meta_gradient(share, 1 / settings.tasks, prepare)
        after = [total / settings.tasks for total in sums.averages]
        numbers = [
            sums.loss,
            sums.accuracy,
            float(self.stop_request.made),
            seconds * (self.rank == 0),
        ]
        numbers = sum_over_ranks(self.fabric, [*gradients(self.strategy), *after], numbers)
        for buffer, value in zip(averages, after, strict=True):
            buffer.copy_(value)
        limit = torch.inf if settings.clip_norm is None else settings.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.strategy.parameters(), limit)
        if not (np.isfinite(numbers[0]) and torch.isfinite(norm)):
            raise FloatingPointError(
                f"The loss or its gradient is not finite in step {step + 1}; φ was left as it was "
                "before. A smaller learning rate, clip_norm or warm-up may help."
            )
        self.optimizer.step()

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
        return Episode(support, query, task.ways)

    def _validate(self) -> None:
        """Measures the accuracy on validation classes, each rank on its share of the episodes."""
        assert self.validation is not None
        mine = outcomes(
            self.strategy,
            self.validation,
            **self.validation_protocol,
            episodes=self.settings.validation_episodes,
            seed=self.settings.seed,
            device=self.fabric.device,
            shard=(self.rank, self.ranks),
        )
        own = torch.cat([outcome.accuracies for outcome in mine] or [torch.empty(0)]).double()
        moments = [float(len(own)), float(own.sum()), float(own.square().sum())]
        self.validated = interval_of_moments(*sum_over_ranks(self.fabric, [], moments))
        mean = self.validated[0]
        best = self.progress["best_accuracy"]
        if best is None or mean > best:
            self.progress |= {"best_accuracy": mean, "best_step": self.progress["step"], "stale": 0}
            if self.directory is None:
                self.best_model = {
                    k: v.detach().clone() for k, v in self.strategy.state_dict().items()
                }
            elif self.rank == 0:
                self._checkpoint().save(self.directory.best)
        else:
            self.progress["stale"] += 1

    # -- what is written ----------------------------------------------------------------------

    def _log(self, board: Any) -> dict[str, float | None]:
        loss, accuracy, count = self.progress["window"]
        self.progress["window"] = [0.0, 0.0, 0]
        validated, self.validated = self.validated, None
        mean = accuracy / max(1, count)
        row: dict[str, float | None] = {
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
            for name, value in row.items():
                if value is not None and name != "step":
                    board.add_scalar(name, value, self.progress["step"])
        return row

    def _settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self.settings)

    def _checkpoint(self) -> Checkpoint:
        assert self.description is not None
        return Checkpoint(
            self.description,
            self.inputs.to_dict(),
            self.strategy.state_dict(),
            optimizer_tensors(self.optimizer),
            self.progress,
            self._settings(),
            self.classes,
        )

    def _save(self) -> None:
        if self.directory is not None and self.rank == 0:
            self._checkpoint().save(self.directory.last, keep=self.directory.previous)

    def _take_over(self, path: str) -> None:
        """Starts from what another run learned, as far as names and shapes agree."""
        saved = Checkpoint.load(checkpoint_file(path))
        own = self.strategy.state_dict()
        encoder = {name for name in own if name.startswith("encoder.")}
        fitting = {
            name: value
            for name, value in saved.model.items()
            if name in own and own[name].shape == value.shape
        }
        if missing := sorted(encoder - set(fitting)):
            raise ValueError(
                f"The run in {path} has another encoder: nothing there fits {missing[0]!r} "
                f"({len(missing)} of {len(encoder)} tensors do not fit). Start from a run with the "
                "same encoder."
            )
        for name, value in fitting.items():
            own[name].copy_(value)
        # Nor may these be tested on.
        self.classes["start_from"] = [each for names in saved.classes.values() for each in names]

    def _open_directory(self, resume: bool) -> None:
        """Makes the run directory, or takes up the run that it holds."""
        directory = self.directory
        if directory is None:
            if resume:
                raise ValueError("Resuming needs the run directory: say which with `out`.")
            return
        if not resume:
            if directory.holds_a_run():
                raise ValueError(
                    f"{directory.path} holds a run already. Go on with it (--resume "
                    f"{directory.path}; in Python resume=True), or choose another folder."
                )
            self.fabric.barrier()
            if self.rank == 0:
                directory.write_config(self.config)
                directory.keep_metrics_until(0)
            self.fabric.barrier()
            return
        saved = directory.newest(say=self.rank == 0)
        if saved is None and not directory.config.exists():
            raise FileNotFoundError(f"There is no run to resume in {directory.path}.")
        if saved is not None:
            self._restore(saved, directory)
        self.fabric.barrier()
        if self.rank == 0:
            directory.write_config(self.config)  # with what a resumed run may change
            self.history = directory.keep_metrics_until(self.progress["step"])
        self.fabric.barrier()

    def _restore(self, saved: Checkpoint, directory: RunDirectory) -> None:
        now = self._checkpoint()
        check_same_run(saved, now, directory.path)
        saved.restore_model(self.strategy)
        saved.restore_optimizer(self.optimizer)
        self.progress |= saved.progress
        self.classes = saved.classes

    def _open_tensorboard(self) -> Any:
        if self.directory is None or self.rank != 0:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self.directory.path, purge_step=self.progress["step"] + 1)

    def _say_the_end(self, show: TrainingProgress) -> None:
        progress = self.progress
        if self.interrupted:
            show.say(f"Stopped after step {progress['step']}.")
        elif progress["step"] < self.settings.steps:
            show.say(f"Ended after step {progress['step']}, before all {self.settings.steps}.")
        if progress["best_accuracy"] is not None:
            show.say(
                f"Best validation accuracy {progress['best_accuracy']:.2%}, "
                f"after step {progress['best_step']}."
            )
        if self.directory is not None:
            show.say(f"The run is in {self.directory.path}.")


def task_source(
    strategy: Strategy, train: ClassDataset | TaskSource, settings: Trainer
) -> TaskSource | EpisodeSampler | BatchSampler:
    """Where the tasks (or ordinary batches) of training come from."""
    if not isinstance(train, ClassDataset):
        if train.tasks != settings.tasks:
            raise ValueError(
                f"The tasks come {train.tasks} an episode, and the trainer's `tasks` is "
                f"{settings.tasks}; the two must be the same."
            )
        return train
    if strategy.episodic:
        return EpisodeSampler(
            train, settings.ways, settings.shots, settings.queries, settings.tasks, settings.seed
        )
    return BatchSampler(train, settings.batch_size, settings.tasks, settings.seed)


def _seed_torch(seed: int, step: int, task: int, device: torch.device) -> None:
    """Makes torch's random numbers a function of (seed, step, task).

    Only the generators that are used: torch.manual_seed formats a stack trace for each kind of
    accelerator that is not there, a millisecond in all.
    """
    state = int(np.random.SeedSequence([seed, step, task]).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(state)
