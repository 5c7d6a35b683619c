"""The state of a training run: the content of a checkpoint, and the files that hold it."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.compute.ranks import barrier, rank
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import Episode, TaskSource
from quickstudy.errors import InputError
from quickstudy.inputs import described_inputs
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.runs.history import Row
from quickstudy.runs.identity import identity
from quickstudy.runs.run import Run, RunDirectory, initialise_from
from quickstudy.runs.same_run import check_same_run
from quickstudy.runs.verifying import answers_to, verified
from quickstudy.saving.description import Description
from quickstudy.saving.rebuilding import frozen_names
from quickstudy.strategies import Strategy
from quickstudy.training.averaging import MovingAverage, copied
from quickstudy.training.events import Events
from quickstudy.training.optimizer import (
    BY_NAME,
    optimizer_tensors,
    restore_optimizer,
    state_after_a_step,
)
from quickstudy.training.settings import Settings

logger = logging.getLogger(__name__)


class RunState:
    """φ, the optimiser, the progress and the history of a run; written by rank 0 alone.

    Args:
        settings: settings of the run.
        strategy: on its device.
        optimizer: of its parameters.
        learned: the names of these parameters.
        train: where training tasks come from.
        validation: where validation tasks come from.
        directory: where the state is saved; None for a run that is not saved.
        config: what ``config.yaml`` holds; the strategy and the settings if empty.
    """

    def __init__(
        self,
        settings: Settings,
        strategy: Strategy,
        optimizer: torch.optim.Optimizer,
        learned: list[str],
        train: ClassDataset | TaskSource,
        validation: ClassDataset | TaskSource | None,
        directory: RunDirectory | None,
        config: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.strategy = strategy
        self.optimizer = optimizer
        self.learned = learned
        self.sources = {"train": train}
        if validation is not None:
            self.sources["validation"] = validation
        self.directory = directory
        self.config = config
        self.classes: dict[str, list[str]] = {"train": []}
        for part, source in self.sources.items():
            if isinstance(source, ClassDataset):
                self.classes[part] = list(source.class_names)
        self.description: Description | None = None
        self.average: MovingAverage | None = None  # of φ, once training has begun
        self.best_model: dict[str, Tensor] | None = None  # of a run that is not saved
        self.history: list[Row] = []
        self.expected_optimizer: dict[str, Any] | None = None
        self.progress: dict[str, Any] = {
            "step": 0,
            "seconds": 0.0,
            "best_accuracy": None,
            "best_step": 0,
            "stale": 0,
            "window": [0.0, 0.0, 0],
            "finished": False,
        }

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files."""
        return self.directory is not None and rank() == 0

    def describe(self, task: Episode, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        """Prepares what files hold, after checking that it can be saved and loaded again.

        Raises:
            ValueError: when the strategy or the optimiser cannot be saved.
        """
        if self.directory is None:
            return
        settings = self.settings
        if settings.optimizer not in BY_NAME:
            self.expected_optimizer = state_after_a_step(
                str(settings.optimizer),
                self.optimizer.param_groups[0]["params"],
                settings.learning_rate,
                settings.weight_decay,
                settings.optimizer_options,
            )
        self.saved_inputs = described_inputs(self.sources["train"].inputs)
        self.description = verified(self.strategy, answers_to(task, autocast))
        self.config = self.config or {"strategy": self.description} | settings.to_dict()
        self.data = {part: identity(source) for part, source in self.sources.items()}

    def begin(self) -> None:
        """Starts with the strategy's present φ or another run's, and creates the directory."""
        directory = self.directory
        if directory is not None and directory.holds_a_run():
            raise InputError(
                f"{directory.path} already holds a run. Continue it (--resume {directory.path}; "
                "in Python resume=True), or choose another folder."
            )
        if start := self.settings.start_from:
            # The classes of that run must not be tested on either.
            to_learn = self.settings.steps > 0
            self.classes["start_from"] = initialise_from(self.strategy, start, to_learn)
        self._begin_average()
        barrier()  # all ranks have looked
        if directory is not None and self.writes:
            directory.write_config(self.config)
            self.save()
            directory.write_metrics([])
        barrier()

    def resume(self) -> None:
        """Continues the run that the directory holds."""
        directory = self.directory
        if directory is None:
            raise InputError("Resuming needs the run directory; give it as `out`.")
        saved = directory.newest(say=rank() == 0)
        if saved is None:
            return self.begin()  # it was killed before it wrote a first checkpoint
        self._restore(saved, directory)
        barrier()
        if self.writes:
            directory.repair(saved)
            directory.write_config(self.config)  # with what a resumed run may change
        barrier()
        return None

    def _restore(self, saved: Checkpoint, directory: RunDirectory) -> None:
        check_same_run(saved, self.checkpoint(), directory.path)
        saved.restore_model(self.strategy)
        self._begin_average()
        if self.average is not None:
            self.strategy.load_state_dict(saved.raw)
        restore_optimizer(self.optimizer, saved.optimizer, self.learned, self.expected_optimizer)
        self.progress |= saved.progress
        self.classes = saved.classes
        self.history = saved.history

    def _begin_average(self) -> None:
        if self.settings.ema is not None:
            self.average = MovingAverage(self.strategy, self.settings.ema)

    def log(self, validated: tuple[float, float] | None, events: Events | None) -> Row:
        """Adds a row to the metrics: means since the last row, and the validation if any."""
        loss, accuracy, count = self.progress["window"]
        self.progress["window"] = [0.0, 0.0, 0]
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
        if self.directory is not None and self.writes:
            self.directory.append_metrics(row)
            if events is not None:
                events.add(row)
        return row

    def judge(self, score: float) -> bool:
        """Records a validation score; returns whether it is the best so far."""
        best = self.progress["best_accuracy"]
        if best is not None and score <= best:
            self.progress["stale"] += 1
            return False
        self.progress |= {"best_accuracy": score, "best_step": self.progress["step"], "stale": 0}
        return True

    def keep_best(self) -> None:
        """Keeps the present φ as the best."""
        if self.directory is None:
            self.best_model = copied(self._model())
        elif self.writes:
            self.checkpoint().save(self.directory.best)

    def save(self) -> None:
        """Writes the last checkpoint; the one before it is kept."""
        if self.directory is not None and self.writes:
            self.checkpoint().save(self.directory.last, keep=self.directory.previous)

    def checkpoint(self) -> Checkpoint:
        """Everything at this moment; only after :meth:`describe`."""
        assert self.description is not None
        return Checkpoint(
            self.description,
            self.saved_inputs,
            self._model(),
            optimizer_tensors(self.optimizer, self.learned),
            self.progress,
            self.settings.to_dict(),
            self.classes,
            dict(self.config),
            self.history,
            raw={} if self.average is None else self.strategy.state_dict(),
            frozen=frozen_names(self.strategy),
            data=self.data,
        )

    def _model(self) -> dict[str, Tensor]:
        """φ as it is used after training."""
        return self.strategy.state_dict() if self.average is None else self.average.state

    def finished_run(self) -> Run:
        """The run, its strategy with the best φ found, in evaluation mode."""
        if self.directory is not None and self.progress["best_accuracy"] is not None:
            self.directory.read_best().restore_model(self.strategy)
        elif self.best_model is not None:
            self.strategy.load_state_dict(self.best_model)
        elif self.average is not None:
            self.strategy.load_state_dict(self.average.state)
        return Run(
            self.strategy.eval(),
            self.sources["train"].inputs,
            self.directory.path if self.directory else None,
            dict(self.config) if self.directory else self.settings.to_dict(),
            self.progress,
            self.history,
            self.classes,
        )

    def open_events(self) -> Events | None:
        """TensorBoard's file, in the process that writes; None if TensorBoard is not installed."""
        if self.directory is None or not self.writes:
            return None
        if importlib.util.find_spec("tensorboard") is None:
            logger.info(
                "TensorBoard is not installed, so the metrics are written to metrics.csv alone. "
                "To write its events too: pip install 'quickstudy[tensorboard]'."
            )
            return None
        return Events(self.directory.path, self.progress["step"])
