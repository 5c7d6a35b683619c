"""Meta-training: the loop."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import EpisodeSampler
from quickstudy.strategies import Strategy
from quickstudy.training.allocator import keep_freed_memory
from quickstudy.training.checkpoint import Checkpoint, optimizer_tensors
from quickstudy.training.description import Description, describe, differences
from quickstudy.training.progress import TrainingProgress
from quickstudy.training.run import Run, RunDirectory
from quickstudy.training.schedule import Schedule, learning_rate_factor
from quickstudy.training.validation import mean_and_interval, outcomes

Precision = Literal["32-true", "bf16-mixed"]
MAY_CHANGE_ON_RESUME = {
    "steps", "max_minutes", "patience", "accelerator", "devices", "nodes", "show_progress"
}  # fmt: skip


@dataclass(kw_only=True)
class Trainer:
    """Learns a strategy's φ over many tasks.

    A run is a function of its settings and its seed. Each step's tasks come from (seed, step), and
    so does whatever a strategy draws at random; processes share the tasks of a step and average
    what they computed, so their number changes the result by rounding only.

    Args:
        ways: classes in a training task.
        shots: support examples a class.
        queries: query examples a class.
        tasks: tasks a step (the meta-batch).
        steps: updates of φ.
        optimizer: "adam" or "sgd" (with Nesterov momentum 0.9).
        learning_rate: the meta-learning rate η.
        weight_decay: L2 penalty of the optimiser.
        schedule: of the learning rate: "constant", "cosine" or "linear" (both fall to 0).
        warmup_steps: steps in which the learning rate grows to its value.
        clip_norm: gradients longer than this are shortened to it.
        precision: "32-true", or "bf16-mixed" (activations in bfloat16).
        max_minutes: stop after so long, and let schedules end then, if it comes before ``steps``.
        validate_every: steps between meta-validations.
        validation_episodes: tasks a meta-validation.
        validation_ways: classes in them; by default as in training but at most 5.
        validation_shots: by default as in training.
        validation_queries: query examples a class in them.
        patience: stop after so many validations without a better one.
        log_every: steps between rows of the metrics.
        checkpoint_every: steps between checkpoints.
        seed: of everything.
        accelerator: "auto", "cpu", "cuda" or another that Lightning Fabric knows.
        devices: processes on this machine.
        nodes: machines.
        show_progress: print what happens.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    tasks: int = 1
    steps: int = 1000
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    precision: Precision = "32-true"
    max_minutes: float | None = None
    validate_every: int = 250
    validation_episodes: int = 200
    validation_ways: int | None = None
    validation_shots: int | None = None
    validation_queries: int = 15
    patience: int | None = None
    log_every: int = 50
    checkpoint_every: int = 250
    seed: int = 0
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name in ("tasks", "steps", "validate_every", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        ranks = self.devices * self.nodes
        if ranks < 1 or self.tasks < ranks:
            raise ValueError(
                f"{ranks} processes cannot share {self.tasks} tasks a step: each needs at least "
                "one. Ask for more tasks or fewer devices."
            )
        if self.learning_rate <= 0:
            raise ValueError(f"The learning rate is {self.learning_rate}; it must be positive.")

    def fit(
        self,
        strategy: Strategy,
        train: ClassDataset,
        validation: ClassDataset | None = None,
        out: str | os.PathLike[str] | None = None,
        *,
        resume: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> Run:
        """Meta-trains ``strategy``.

        Ctrl-C (or SIGTERM) finishes the step, saves and returns; a second one stops at once.

        Args:
            strategy: whose parameters are learned, in place.
            train: the training classes.
            validation: classes that choose the best checkpoint and stop early.
            out: the run directory; without it nothing is written.
            resume: go on where the run in ``out`` stands.
            config: what to write into ``config.yaml``; by default the strategy and these settings.

        Returns:
            The run, its strategy with the best φ found, in evaluation mode.

        Raises:
            ValueError: when the data is too small for the tasks, ``out`` holds a run already, or a
                run of another strategy or other settings is to be resumed.
        """
        with torch.random.fork_rng(devices=[]):
            return _Fit(self, strategy, train, validation, out, config).run(resume)


def fit(
    strategy: Strategy,
    train: ClassDataset,
    validation: ClassDataset | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Meta-trains ``strategy``: ``Trainer(**settings).fit(...)``."""
    return Trainer(**settings).fit(strategy, train, validation, out, resume=resume)


class _Fit:
    """One call of :meth:`Trainer.fit`: its state, and the steps that change it."""

    def __init__(
        self,
        settings: Trainer,
        strategy: Strategy,
        train: ClassDataset,
        validation: ClassDataset | None,
        out: str | os.PathLike[str] | None,
        config: Mapping[str, Any] | None,
    ) -> None:
        keep_freed_memory()
        self.settings = settings
        self.strategy = strategy
        self.validation = validation
        self.inputs = train.inputs
        self.directory = None if out is None else RunDirectory(out)
        self.description: Description | None = None
        if self.directory is not None:
            self.description = describe(strategy)
            self.config = config or self._default_config()
        self.sampler = EpisodeSampler(
            train, settings.ways, settings.shots, settings.queries, settings.tasks, settings.seed
        )
        self.validation_protocol: dict[str, Any] = {
            "ways": settings.validation_ways or min(settings.ways, 5),
            "shots": settings.validation_shots or settings.shots,
            "queries": settings.validation_queries,
            "episodes": settings.validation_episodes,
            "seed": settings.seed,
        }
        if validation is not None:  # a class too small is better found now than after an hour
            EpisodeSampler(validation, *list(self.validation_protocol.values())[:3])
        self.fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if settings.devices * settings.nodes > 1 else "auto",
            precision=settings.precision,
        )
        self.fabric.launch()
        self.rank, self.ranks = self.fabric.global_rank, self.fabric.world_size
        self._place_strategy()
        self.optimizer = self._make_optimizer()
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
        self.logits: Tensor | None = None
        self.asked_to_stop = False  # this process was; the ranks agree on `interrupted`
        self.interrupted = False

    def _default_config(self) -> dict[str, Any]:
        return {"strategy": self.description} | dataclasses.asdict(self.settings)

    def _place_strategy(self) -> None:
        self.strategy.to(self.fabric.device)
        self.strategy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.ranks > 1:  # all begin with the same φ, however it was initialised
            for tensor in self.strategy.state_dict().values():
                tensor.copy_(self.fabric.broadcast(tensor))

    def _make_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        parameters = [p for p in self.strategy.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError(f"{type(self.strategy).__name__} has no parameters to learn.")
        if settings.optimizer == "adam":
            return torch.optim.Adam(
                parameters, settings.learning_rate, weight_decay=settings.weight_decay
            )
        if settings.optimizer == "sgd":
            return torch.optim.SGD(
                parameters,
                settings.learning_rate,
                momentum=0.9,
                nesterov=True,
                weight_decay=settings.weight_decay,
            )
        raise ValueError(f"The optimizer {settings.optimizer!r} is unknown; choose adam or sgd.")

    # -- the run ------------------------------------------------------------------------------

    def run(self, resume: bool) -> Run:
        self._open_directory(resume)
        settings, progress = self.settings, self.progress
        started = time.perf_counter() - progress["seconds"]
        board = self._open_tensorboard()
        hook = self.strategy.register_forward_hook(self._keep_logits)
        shown = settings.show_progress and self.rank == 0
        show = TrainingProgress(settings.steps, progress["step"], shown)
        logged = (progress["step"], progress["seconds"])
        try:
            with show, self._stop_signals():
                if progress["step"]:
                    show.say(f"Resuming after step {progress['step']}.")
                while not self._over():
                    self._step(time.perf_counter() - started)
                    step = progress["step"]
                    show.step(step)
                    validated = self.validation is not None and (
                        step % settings.validate_every == 0 or step == settings.steps
                    )
                    if validated:
                        self._validate()
                    if validated or step % settings.log_every == 0 or self._over():
                        row = self._log(board)
                        elapsed = progress["seconds"] - logged[1]
                        tasks = (step - logged[0]) * settings.tasks
                        show.log(row, tasks / max(elapsed, 1e-9))
                        logged = (step, progress["seconds"])
                    if validated or step % settings.checkpoint_every == 0:
                        self._save()
                progress["finished"] = not self.interrupted
                self._save()
                self._say_the_end(show)
        finally:
            hook.remove()
            if board is not None:
                board.close()
        if self.directory is not None and self.directory.best.exists() and self.validation:
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
        )

    best_model: dict[str, Tensor] | None = None

    def _over(self) -> bool:
        settings, progress = self.settings, self.progress
        return bool(
            self.interrupted
            or progress["step"] >= settings.steps
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
        buffers = list(self.strategy.buffers())
        before = [b.clone() for b in buffers]
        averages = [b for b in buffers if b.is_floating_point()]
        after = [torch.zeros_like(b) for b in averages]
        loss_sum = accuracy_sum = 0.0
        self.optimizer.zero_grad()
        for number in range(share.tasks):
            # Each task begins with the same buffers (running averages, counters) and its own random
            # numbers, so that it does not matter which rank computes it, nor after what.
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            _seed_torch(settings.seed, step, self.rank + number * self.ranks)
            task = share[number : number + 1]
            with self.fabric.autocast():
                loss = self.strategy.loss(task)
            self.fabric.backward(loss / settings.tasks)
            loss_sum += loss.item()
            accuracy_sum += self._accuracy(task.query.targets)
            for total, buffer in zip(after, averages, strict=True):
                total += buffer / settings.tasks
        numbers = [loss_sum, accuracy_sum, float(self.asked_to_stop), seconds * (self.rank == 0)]
        numbers = self._sum_over_ranks(after, numbers)
        for buffer, value in zip(averages, after, strict=True):
            buffer.copy_(value)
        if not np.isfinite(numbers[0]):
            raise FloatingPointError(
                f"The loss is not finite after step {step}. A smaller learning rate, clip_norm or "
                "warm-up may help; the last checkpoint is from before."
            )
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.strategy.parameters(), settings.clip_norm)
        self.optimizer.step()

        window = self.progress["window"]
        window[0] += numbers[0] / settings.tasks
        window[1] += numbers[1] / settings.tasks
        window[2] += 1
        self.interrupted = numbers[2] > 0
        self.progress["seconds"] = numbers[3]
        self.progress["step"] = step + 1

    def _sum_over_ranks(self, averages: list[Tensor], numbers: list[float]) -> list[float]:
        """Sums gradients and running averages in place, and the numbers, over all ranks."""
        if self.ranks == 1:
            return numbers
        gradients = []
        for parameter in self.strategy.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        tensors = [*gradients, *averages]
        scalars = torch.tensor(numbers, device=self.fabric.device, dtype=torch.float64)
        flat = torch.cat([t.flatten().double() for t in tensors] + [scalars])
        flat = self.fabric.all_reduce(flat, reduce_op="sum")
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()
        return [float(x) for x in flat[start:]]

    def _keep_logits(self, strategy: Any, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self.logits = output.detach()

    def _accuracy(self, targets: Tensor) -> float:
        """The accuracy of the latest forward pass; not a number if the loss made none."""
        logits, self.logits = self.logits, None
        if logits is None or logits.shape[:2] != targets.shape or targets.is_floating_point():
            return float("nan")
        return float((logits.argmax(-1) == targets).float().mean())

    def _validate(self) -> None:
        """Measures the accuracy on validation classes, each rank on its share of the episodes."""
        assert self.validation is not None  # noqa: S101
        mine = outcomes(
            self.strategy,
            self.validation,
            **self.validation_protocol,
            device=self.fabric.device,
            shard=(self.rank, self.ranks),
        )
        own = torch.cat([outcome.accuracies for outcome in mine] or [torch.empty(0)]).double()
        moments = torch.stack([own.new_tensor(len(own)), own.sum(), own.square().sum()])
        if self.ranks > 1:
            moments = self.fabric.all_reduce(moments, reduce_op="sum")
        count, total, squares = moments.tolist()
        mean = total / count
        deviation = max(0.0, squares - count * mean**2) / max(1, count - 1)
        self.validated = (mean, 1.96 * (deviation / count) ** 0.5)
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

    validated: tuple[float, float] | None = None

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
        assert self.description is not None  # noqa: S101
        return Checkpoint(
            self.description,
            self.inputs.to_dict(),
            self.strategy.state_dict(),
            optimizer_tensors(self.optimizer),
            self.progress,
            self._settings(),
        )

    def _save(self) -> None:
        if self.directory is not None and self.rank == 0:
            self._checkpoint().save(self.directory.last)

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
                    f"{directory.path} holds a run already. Go on with it (resume), or choose "
                    "another folder."
                )
            self.fabric.barrier()
            if self.rank == 0:
                directory.write_config(self.config)
                directory.keep_metrics_until(0)
            self.fabric.barrier()
            return
        if not directory.last.exists() and not directory.config.exists():
            raise FileNotFoundError(f"There is no run to resume in {directory.path}.")
        if directory.last.exists():
            self._restore(Checkpoint.load(directory.last), directory)
        self.fabric.barrier()
        if self.rank == 0:
            self.history = directory.keep_metrics_until(self.progress["step"])
        self.fabric.barrier()

    def _restore(self, saved: Checkpoint, directory: RunDirectory) -> None:
        other = differences(saved.strategy, self.description)
        if other:
            raise ValueError(
                f"{directory.path} holds a run of another strategy. There and here differ: "
                f"{'; '.join(other)}."
            )
        changed = differences(
            {k: v for k, v in saved.settings.items() if k not in MAY_CHANGE_ON_RESUME},
            {k: v for k, v in self._settings().items() if k not in MAY_CHANGE_ON_RESUME},
        )
        if changed:
            raise ValueError(
                f"The run in {directory.path} was started with other settings: "
                f"{'; '.join(changed)}. A resumed run may only change "
                f"{', '.join(sorted(MAY_CHANGE_ON_RESUME))}."
            )
        saved.restore_model(self.strategy)
        saved.restore_optimizer(self.optimizer)
        self.progress |= saved.progress

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

    @contextmanager
    def _stop_signals(self) -> Iterator[None]:
        """Lets the first Ctrl-C or SIGTERM end the run after the current step."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self.asked_to_stop:
                raise KeyboardInterrupt
            self.asked_to_stop = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        watched = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, stop) for number in watched]
        try:
            yield
        finally:
            for number, handler in zip(watched, previous, strict=True):
                signal.signal(number, handler)


def _seed_torch(seed: int, step: int, task: int) -> None:
    """Makes torch's random numbers a function of (seed, step, task)."""
    state = np.random.SeedSequence([seed, step, task]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state))
