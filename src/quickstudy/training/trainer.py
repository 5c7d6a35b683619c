"""Meta-training: its settings, and the call that starts it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from quickstudy.counts import plain_count, whole_number, whole_range
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import checked_strategy, classes_or_tasks
from quickstudy.inputs import Augmentation
from quickstudy.runs.run import Run
from quickstudy.strategies import Strategy
from quickstudy.training.loop import Fit
from quickstudy.training.optimizer import OptimizerName, Schedule

Precision = Literal["32-true", "bf16-mixed"]


RANGES = ("ways", "shots")
"""Settings that may be a range (low, high)."""

LEAST = {
    "ways": 2,
    "shots": 1,
    "queries": 1,
    "turns": 1,
    "tasks": 1,
    "batch_size": 1,
    "tasks_at_once": 1,
    "steps": 0,
    "warmup_steps": 0,
    "validate_every": 1,
    "validation_episodes": 2,
    "validation_ways": 2,
    "validation_shots": 1,
    "validation_queries": 1,
    "patience": 1,
    "log_every": 1,
    "checkpoint_every": 1,
    "seed": 0,
    "devices": 1,
    "nodes": 1,
}


@dataclass(kw_only=True)
class Trainer:
    """Learns a strategy's φ over many tasks.

    A run is a function of its settings and its seed. Each step's tasks come from (seed, step), and
    so does whatever a strategy draws at random; processes share the tasks of a step and average
    what they computed, so their number changes the result by rounding only.

    Args:
        ways: classes in a training task, or an inclusive range (low, high). All tasks of a step
            have the same ways and shots, which are drawn anew for each step from (seed, step).
        shots: support examples per class, or a range.
        queries: query examples per class.
        turns: how often the examples of a task take turns at being its support. Each is encoded
            once, so that more turns learn more from it at little cost; at most
            (shots + queries) / shots, where each has been in the support. For strategies that work
            on an encoder's vectors.
        tasks: tasks a step (the meta-batch).
        batch_size: examples in a batch, where a strategy learns from ordinary batches of all
            classes instead of tasks; ``tasks`` is then the number of batches a step.
        steps: updates of φ. With 0 what ``start_from`` learned is put to use as it is.
        optimizer: "adam" or "sgd" (with Nesterov momentum 0.9).
        learning_rate: the meta-learning rate η.
        weight_decay: L2 penalty of the optimiser.
        schedule: of the learning rate: "constant", "cosine" or "linear" (both fall to 0).
        warmup_steps: steps in which the learning rate grows to its value.
        clip_norm: gradients longer than this are shortened to it.
        ema: decay a step of an exponential moving average of φ (such as 0.999, which forgets in
            some thousand steps). It is then what is validated, saved and returned.
        augmentation: random changes to the training images, support and query alike.
        precision: "32-true", or "bf16-mixed" (activations in bfloat16).
        tasks_at_once: tasks of a step that run side by side, each on a core of its own; by default
            as many as cores and memory allow, and one where a strategy draws random numbers.
        compiled: compile the strategy's forward pass (``torch.compile``). The first step then takes
            half a minute or more; where compilation fails the run goes on without.
        max_minutes: stop after so long, and let schedules end then, if it comes before ``steps``;
            such a run depends on the machine's speed too.
        validate_every: steps between meta-validations.
        validation_episodes: tasks a meta-validation.
        validation_ways: classes in them; by default as in training (the upper end of a range), but
            at most 5 and at most the number of classes.
        validation_shots: by default as in training.
        validation_queries: query examples per class in them; by default 15, or as many as the
            smallest class has beside its shots.
        patience: stop after this many validations without improvement; needs validation data.
        log_every: steps between rows of the metrics.
        checkpoint_every: steps between checkpoints.
        start_from: a run (its directory or a checkpoint) whose encoder this one starts with, and
            whatever else has the same name and shape.
        seed: of everything.
        accelerator: "auto", "cpu", "cuda" or another that Lightning Fabric knows.
        devices: processes on this machine.
        nodes: machines.
        show_progress: print what happens.
    """

    ways: int | tuple[int, int] = 5
    shots: int | tuple[int, int] = 1
    queries: int = 15
    turns: int = 1
    tasks: int = 1
    batch_size: int = 128
    steps: int = 1000
    optimizer: OptimizerName = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    ema: float | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Precision = "32-true"
    tasks_at_once: int | None = None
    compiled: bool = False
    max_minutes: float | None = None
    validate_every: int = 250
    validation_episodes: int = 200
    validation_ways: int | None = None
    validation_shots: int | None = None
    validation_queries: int | None = None
    patience: int | None = None
    log_every: int = 50
    checkpoint_every: int = 250
    start_from: str | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    show_progress: bool = True

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is None and Trainer.__dataclass_fields__[name].default is None:
                continue
            # As files store them, so that a resumed run finds its own settings.
            read = plain_count if name in RANGES else whole_number
            setattr(self, name, read(value, name, least))
        if not self.weight_decay >= 0:
            raise InputError(f"weight_decay is {self.weight_decay}; it must be at least 0.")
        for name in ("learning_rate", "max_minutes", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be more than 0.")
        if not (self.steps or self.start_from):
            raise InputError(
                "steps is 0, and start_from names no run: nothing would have been learned. Take at "
                "least one step, or say what to start from."
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}; it must be at least 0 and less than 1.")
        shots = whole_range(self.shots, "shots")[1]
        most = (shots + self.queries) // shots
        if self.turns > most:
            raise InputError(
                f"turns is {self.turns}, but with {shots + self.queries} examples per class, "
                f"{shots} of them in the support, there are only {most} different supports; use at "
                f"most {most}."
            )
        ranks = self.devices * self.nodes
        if ranks < 1 or self.tasks < ranks:
            raise InputError(
                f"{ranks} processes cannot share {self.tasks} tasks a step: each needs at least "
                "one. Ask for more tasks or fewer devices."
            )

    def fit(
        self,
        strategy: Strategy,
        train: ClassDataset | TaskSource,
        validation: ClassDataset | TaskSource | None = None,
        out: str | os.PathLike[str] | None = None,
        *,
        resume: bool = False,
        config: Mapping[str, Any] | None = None,
        until: int | None = None,
    ) -> Run:
        """Meta-trains ``strategy``.

        Ctrl-C (or SIGTERM) finishes the step, saves and returns; a second one stops at once.

        Args:
            strategy: whose parameters are learned, in place.
            train: the training classes, or a source of tasks: any object with a method
                ``episode(number)`` that always returns the same :class:`Episode` for a number. Its
                attributes ``tasks``, ``ways`` and ``inputs`` are those of the first episode unless
                it states them.
            validation: classes or a source of tasks that choose the best checkpoint and stop early:
                by accuracy, in regression by minus the mean squared error, which then replaces
                accuracy.
            out: the run directory; without it nothing is written.
            resume: continue the run in ``out``.
            config: what to write into ``config.yaml``; by default the strategy and these settings.
            until: stop after this step, validate and save; the run can be gone on with. Schedules
                still end at ``steps``, so that what is learned is what it would be without.

        Returns:
            The run, its strategy with the best φ found, in evaluation mode.

        Raises:
            ValueError: when something other than a strategy or data is given, the data is too small
                for the tasks, ``out`` holds a run already, or a run of another strategy or other
                settings is to be resumed.
        """
        strategy, train = checked_strategy(strategy), classes_or_tasks(train, "training")
        if validation is not None:
            validation = classes_or_tasks(validation, "validation")
        elif self.patience is not None:
            raise InputError(
                f"patience is {self.patience}, but there are no validation data, which early "
                "stopping needs. Give some, or leave patience out."
            )
        with torch.random.fork_rng(devices=[]):
            return Fit(self, strategy, train, validation, out, config, until).run(resume)


def fit(
    strategy: Strategy,
    train: ClassDataset | TaskSource,
    validation: ClassDataset | TaskSource | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Meta-trains ``strategy``: ``Trainer(**settings).fit(...)``."""
    return Trainer(**settings).fit(strategy, train, validation, out, resume=resume)
