"""Run directories: the files of a training run, and how the run is resumed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from quickstudy.deprecated import once_positional, with_present_names
from quickstudy.encoders.cpu.layout import use_channels_last
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs import Inputs, inputs_from_dict
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.runs.history import Row, as_csv
from quickstudy.runs.same_run import check_same_run
from quickstudy.saving.description import differences
from quickstudy.saving.files import explained, remove_abandoned, write_text_atomically
from quickstudy.saving.rebuilding import rebuilt
from quickstudy.saving.trust import check_trusted
from quickstudy.saving.yaml_text import read_yaml_file
from quickstudy.strategies import Strategy

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A trained strategy with what belongs to it.

    Args:
        strategy: with the φ of the best checkpoint, in evaluation mode.
        inputs: how raw items become its inputs.
        path: the run directory, or None for a run that was not saved.
        config: what the run was started with.
        progress: where training stood: ``step``, ``best_accuracy``, ``seconds``, ...
        history: the rows of ``metrics.csv`` until then.
        classes: the names of the classes used, under "train" and "validation".
    """

    strategy: Strategy
    inputs: Inputs
    path: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Run:
        """The run with its strategy on ``device``."""
        self.strategy.to(device)
        return self


def checkpoint_file(path: str | os.PathLike[str], checkpoint: str = "best") -> Path:
    """The file of a checkpoint: in a run directory, or ``path`` itself if it is one.

    Raises:
        FileNotFoundError: when there is no such run.
    """
    path = Path(path)
    if path.is_file():
        return path
    directory = RunDirectory(path)
    if not any(file.exists() for file in (directory.last, directory.previous, directory.best)):
        raise MissingFileError(
            f"{path} is not a run: it has no checkpoints. Runs are the folders that "
            "`quickstudy train --out` writes."
        )
    if checkpoint not in ("best", "last"):
        raise InputError(f"The checkpoint {checkpoint!r} is unknown; choose best or last.")
    use_best = checkpoint == "best" and directory.best.exists()
    return directory.best if use_best else directory.last


@once_positional("trust")
def load(
    path: str | os.PathLike[str], checkpoint: str = "best", *, trust: Collection[str] = ()
) -> Run:
    """Loads a run from its directory, or a single checkpoint from its file.

    Args:
        path: a run directory or a ``.safetensors`` checkpoint.
        checkpoint: "best" (by meta-validation; without one "last") or "last".
        trust: import paths of classes outside this package that it may use, such as
            ``["my_package.MyStrategy"]``. Importing runs their code. Strategies and encoders that
            are imported already need not be named.

    Raises:
        FileNotFoundError: when there is no such run.
        ValueError: when the checkpoint is damaged, describes something else than a strategy, or
            names classes that are not trusted.

    Example:
        >>> import quickstudy
        >>> quickstudy.load("runs/nothing")
        Traceback (most recent call last):
        quickstudy.errors.MissingFileError: runs/nothing is not a run: it has no checkpoints...
    """
    file = checkpoint_file(path, checkpoint)
    directory = None if Path(path).is_file() else RunDirectory(path)
    if directory is None:
        saved = Checkpoint.load(file)
    elif file == directory.best:
        saved = directory.read_best()
    else:
        saved = directory.newest() or Checkpoint.load(file)
        lost = saved.progress["best_accuracy"] is not None
        if checkpoint == "best" and lost and saved.progress["best_step"] != saved.progress["step"]:
            raise InputError(
                f"{directory.best} is missing, which the run has written after step "
                f"{saved.progress['best_step']}. Choose the last checkpoint instead (--checkpoint "
                "last)."
            )
    check_trusted(saved.strategy, trust)
    strategy = rebuilt(saved.strategy, saved.model, saved.frozen)
    if not isinstance(strategy, Strategy):
        raise InputError(f"{file} holds a {type(strategy).__name__}, which is not a Strategy.")
    use_channels_last(strategy)
    return Run(
        strategy.eval(),
        inputs_from_dict(saved.inputs),
        directory.path if directory else None,
        saved.config,
        saved.progress,
        saved.history,
        saved.classes,
    )


def initialise_from(strategy: Strategy, path: str, to_learn: bool) -> list[str]:
    """Gives ``strategy`` what another run learned, as far as names and shapes agree.

    Args:
        strategy: whose φ is changed.
        path: path of the other run.
        to_learn: whether ``strategy`` goes on learning. If not, a warning names what the other run
            has not learned, but for the classifier of training classes, which no task needs.

    Returns:
        The classes that the other run has used.

    Raises:
        ValueError: when it has another encoder.
    """
    saved = Checkpoint.load(checkpoint_file(path))
    own = strategy.state_dict()
    encoder = {name for name in own if name.startswith("encoder.")}
    fitting = {
        name: value
        for name, value in saved.model.items()
        if name in own and own[name].shape == value.shape
    }
    if missing := sorted(encoder - set(fitting)):
        raise InputError(
            f"The run in {path} has another encoder: nothing there fits {missing[0]!r} "
            f"({len(missing)} of {len(encoder)} tensors do not fit). Start from a run with the "
            "same encoder."
        )
    for name, value in fitting.items():
        own[name].copy_(value)
    new = [n for n in sorted(set(own) - set(fitting)) if not n.startswith("classifier.")]
    if new and not to_learn:
        warnings.warn(
            f"{type(strategy).__name__} learns what the run in {path} did not, and without steps "
            f"it stays as it begins: {', '.join(new)}.",
            stacklevel=2,
        )
    return [each for names in saved.classes.values() for each in names]


class RunDirectory:
    """The files of a run.

    ``config.yaml`` (enough to repeat it), ``metrics.csv``, TensorBoard events (if installed),
    ``checkpoints/last.safetensors``, the one before it as ``previous.safetensors``, and
    ``checkpoints/best.safetensors``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.last = self.path / "checkpoints" / "last.safetensors"
        self.previous = self.path / "checkpoints" / "previous.safetensors"
        self.best = self.path / "checkpoints" / "best.safetensors"

    def holds_a_run(self) -> bool:
        """Whether training began here before."""
        checkpoints = (self.last, self.previous, self.best)
        return self.metrics.exists() or any(path.exists() for path in checkpoints)

    def can_be_resumed(self) -> bool:
        """Whether there is a run, if only its config."""
        return self.config.exists() or self.last.exists() or self.previous.exists()

    def newest(self, say: bool = True) -> Checkpoint | None:
        """The newest intact checkpoint; None if there is none.

        Args:
            say: log a warning when it is not the last.

        Raises:
            ValueError: when none of those that are there can be used.
        """
        problems = []
        for path in (self.last, self.previous):
            try:
                found = Checkpoint.load(path)
            except FileNotFoundError:
                continue
            except ValueError as error:
                problems.append(error)
                continue
            if problems and say:
                logger.warning(
                    "%s The checkpoint before it, of step %s, is used instead.",
                    problems[0],
                    found.progress["step"],
                )
            return found
        if problems:
            raise problems[0]
        return None

    def read_best(self) -> Checkpoint:
        """The best checkpoint.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is damaged, or another one in its place.
        """
        found = Checkpoint.load(self.best)
        if found.progress.get("step") != found.progress.get("best_step"):
            raise InputError(
                f"{self.best} is not the best checkpoint but another, of step "
                f"{found.progress.get('step')}. Choose the last one instead (--checkpoint last)."
            )
        return found

    def repair(self, newest: Checkpoint) -> None:
        """Makes the files agree with the checkpoint from which the run continues.

        Only for the process that holds the run's lock: what killed processes left is removed, and
        the last checkpoint is again a whole one.

        Raises:
            ValueError: when the best checkpoint is lost.
        """
        for folder in (self.path, self.last.parent):
            remove_abandoned(folder)
        best_step = newest.progress["best_step"]
        if newest.progress["best_accuracy"] is not None:
            self._repair_best(newest, best_step)
        if newest.path == self.previous:
            self.previous.replace(self.last)
        if self.config.exists() and (changed := self._changed_config(newest.config)):
            logger.warning(
                "%s was changed since the run began (%s), which has no effect. To change an option "
                "of a run, type it: --resume %s --steps 1000.",
                self.config,
                changed,
                self.path,
            )
        self.write_metrics(newest.history)

    def _repair_best(self, newest: Checkpoint, step: int) -> None:
        try:
            best = self.read_best()
            check_same_run(best, newest, self.best)
            # A later one was written just before the process died, and will be again.
            if best.progress["step"] == step or best.progress["step"] > newest.progress["step"]:
                return
            raise InputError(f"{self.best} is that of step {best.progress['step']}.")
        except (ValueError, FileNotFoundError) as error:
            problem = error
        for path in (self.last, self.previous):
            try:
                same = Checkpoint.load(path)
            except (ValueError, FileNotFoundError):
                continue
            if same.progress["step"] == step:
                logger.warning("%s It is restored from %s.", problem, path)
                same.save(self.best)
                return
        raise InputError(
            f"{problem} The φ that was best so far, of step {step}, is in no other checkpoint, so "
            "the run cannot end as it would have. Train again in another folder, or evaluate what "
            "there is (--checkpoint last)."
        ) from problem

    def _changed_config(self, config: Mapping[str, Any]) -> str:
        """The differences between ``config.yaml`` and the checkpoint's config."""
        try:
            return "; ".join(differences(self.read_config(), config))
        except ValueError:
            return "it is not readable YAML"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes ``config.yaml``."""
        write_text_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The content of ``config.yaml``; empty if there is none.

        Raises:
            ValueError: when it is not YAML, or not options.
        """
        if not self.config.exists():
            return {}
        config = read_yaml_file(self.config, str(self.config))
        if not isinstance(config, dict):
            raise InputError(f"{self.config} should hold options; it holds {str(config)[:40]!r}.")
        return with_present_names(config)

    def write_metrics(self, rows: Sequence[Row]) -> None:
        """Writes ``metrics.csv`` anew."""
        write_text_atomically(self.metrics, as_csv(rows))

    def append_metrics(self, row: Row) -> None:
        """Adds a row to ``metrics.csv``."""
        with (
            explained(self.metrics),
            self.metrics.open("a", newline="", encoding="utf-8") as file,
        ):
            file.write(as_csv([row], header=False))
