"""The settings of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import torch

from quickstudy.counts import plain_count, whole_number, whole_range
from quickstudy.errors import InputError
from quickstudy.inputs import Augmentation
from quickstudy.training.callbacks import Callback
from quickstudy.training.optimizer import Schedule, checked_options, optimizer_name

Precision = Literal["32-true", "bf16-mixed"]

RANGES = ("ways", "shots")
"""Settings that may be an inclusive range (low, high)."""

LEAST = {
    "ways": 2,
    "shots": 1,
    "queries": 1,
    "support_rotations": 1,
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
class Settings:
    """The training settings that a run directory records; :class:`Trainer` explains each."""

    ways: int | tuple[int, int] = 5
    shots: int | tuple[int, int] = 1
    queries: int = 15
    support_rotations: int = 1
    tasks: int = 1
    batch_size: int = 128
    steps: int = 1000
    optimizer: str | type[torch.optim.Optimizer] = "adam"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
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
            if value is None and Settings.__dataclass_fields__[name].default is None:
                continue
            # As files store them, so that a resumed run finds its own settings.
            read = plain_count if name in RANGES else whole_number
            setattr(self, name, read(value, name, least))
        self.optimizer = optimizer_name(self.optimizer)
        self.optimizer_options = checked_options(self.optimizer_options)
        if not self.weight_decay >= 0:
            raise InputError(f"weight_decay is {self.weight_decay}; it must be at least 0.")
        for name in ("learning_rate", "max_minutes", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be more than 0.")
        if not (self.steps or self.start_from):
            raise InputError(
                "steps is 0 and start_from names no run, so nothing would have been learned. Take "
                "at least one step, or name a run to start from."
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}; it must be at least 0 and less than 1.")
        self._check_rotations()
        ranks = self.devices * self.nodes
        if ranks < 1 or self.tasks < ranks:
            raise InputError(
                f"{ranks} processes cannot share {self.tasks} tasks per step: each needs at least "
                "one. Ask for more tasks or fewer devices."
            )

    def _check_rotations(self) -> None:
        shots = whole_range(self.shots, "shots")[1]
        most = (shots + self.queries) // shots
        if self.support_rotations > most:
            raise InputError(
                f"support_rotations is {self.support_rotations}, but with {shots + self.queries} "
                f"examples per class, {shots} of them in the support, there are only {most} "
                f"different supports; use at most {most}."
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings as files store them."""
        names = {each.name for each in dataclasses.fields(Settings)}
        return {name: each for name, each in dataclasses.asdict(self).items() if name in names}


class TrainerSettings(TypedDict, total=False):
    """The settings as keyword arguments of :func:`fit`, for type checkers and editors."""

    ways: int | tuple[int, int]
    shots: int | tuple[int, int]
    queries: int
    support_rotations: int
    tasks: int
    batch_size: int
    steps: int
    optimizer: str | type[torch.optim.Optimizer]
    optimizer_options: dict[str, Any]
    learning_rate: float
    weight_decay: float
    schedule: Schedule
    warmup_steps: int
    clip_norm: float | None
    ema: float | None
    augmentation: Augmentation
    precision: Precision
    tasks_at_once: int | None
    compiled: bool
    max_minutes: float | None
    validate_every: int
    validation_episodes: int
    validation_ways: int | None
    validation_shots: int | None
    validation_queries: int | None
    patience: int | None
    log_every: int
    checkpoint_every: int
    start_from: str | None
    seed: int
    accelerator: str
    devices: int
    nodes: int
    show_progress: bool
    callbacks: Sequence[Callback]
