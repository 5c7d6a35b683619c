"""Run directories: what a training run leaves behind, and how it is taken up again."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from quickstudy.encoders.encoder import use_channels_last
from quickstudy.files import write_text_atomically
from quickstudy.inputs import Inputs, inputs_from_dict
from quickstudy.strategies import Strategy
from quickstudy.training.checkpoint import Checkpoint
from quickstudy.training.description import build

COLUMNS = (
    "step",
    "loss",
    "accuracy",
    "learning_rate",
    "validation_accuracy",
    "validation_ci95",
    "seconds",
)


@dataclass
class Run:
    """A trained strategy with what belongs to it.

    Args:
        strategy: with the φ of the best checkpoint, in evaluation mode.
        inputs: how raw things become its inputs.
        path: the run directory, or None for a run that was not saved.
        config: what the run was started with.
        progress: where training stood: ``step``, ``best_accuracy``, ``seconds``, ...
        history: the rows of ``metrics.csv``.
        classes: the names of the classes used, under "train" and "validation".
    """

    strategy: Strategy
    inputs: Inputs
    path: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Run:
        """The run with its strategy on ``device``."""
        self.strategy.to(device)
        return self


def checkpoint_file(path: str | os.PathLike[str], checkpoint: str = "best") -> Path:
    """The file of a checkpoint: of a run directory, or ``path`` itself where it is one.

    Raises:
        FileNotFoundError: when there is no such run.
    """
    path = Path(path)
    if path.is_file():
        return path
    directory = RunDirectory(path)
    if not path.is_dir() or not (directory.last.exists() or directory.best.exists()):
        raise FileNotFoundError(
            f"{path} is not a run: it has no checkpoints. Runs are the folders that "
            "`quickstudy train --out` writes."
        )
    if checkpoint not in ("best", "last"):
        raise ValueError(f"The checkpoint {checkpoint!r} is unknown; choose best or last.")
    use_best = checkpoint == "best" and directory.best.exists()
    return directory.best if use_best else directory.last


def load(path: str | os.PathLike[str], checkpoint: str = "best") -> Run:
    """Loads a run from its directory, or a single checkpoint from its file.

    Args:
        path: a run directory or a ``.safetensors`` checkpoint.
        checkpoint: "best" (by meta-validation; "last" where there was none) or "last".

    Raises:
        FileNotFoundError: when there is no such run.
        ValueError: when the checkpoint is damaged or describes something else than a strategy.
    """
    file = checkpoint_file(path, checkpoint)
    directory = None if Path(path).is_file() else RunDirectory(path)
    saved = Checkpoint.load(file)
    strategy = build(saved.strategy)
    if not isinstance(strategy, Strategy):
        raise ValueError(f"{file} holds a {type(strategy).__name__}, which is not a Strategy.")
    saved.restore_model(strategy)
    use_channels_last(strategy)
    return Run(
        strategy.eval(),
        inputs_from_dict(saved.inputs),
        directory.path if directory else None,
        directory.read_config() if directory else {},
        saved.progress,
        directory.read_metrics() if directory else [],
        saved.classes,
    )


class RunDirectory:
    """The files of a run.

    ``config.yaml`` (enough to repeat it), ``metrics.csv`` and TensorBoard events,
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

    def newest(self, say: bool = True) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none at all.

        Args:
            say: tell on stderr when it is not the last.

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
                print(
                    f"{problems[0]} Instead the one before it is used, of step "
                    f"{found.progress['step']}.",
                    file=sys.stderr,
                )
            return found
        if problems:
            raise problems[0]
        return None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes ``config.yaml``."""
        write_text_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """What ``config.yaml`` says; empty when there is none."""
        if not self.config.exists():
            return {}
        try:
            config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.config} is not readable YAML: {error}") from error
        return config if isinstance(config, dict) else {}

    def read_metrics(self) -> list[dict[str, float | None]]:
        """The rows of ``metrics.csv``; empty cells are None."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="", encoding="utf-8") as file:
            return [
                {k: float(v) if v else None for k, v in row.items()}
                for row in csv.DictReader(file)
                if None not in row.values()  # a row cut short when the process was killed
            ]

    def keep_metrics_until(self, step: int) -> list[dict[str, float | None]]:
        """Drops rows after ``step``, which a resumed run will write again; returns the others."""
        rows = [
            row for row in self.read_metrics() if row["step"] is not None and row["step"] <= step
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(_printable(row) for row in rows)
        write_text_atomically(self.metrics, text.getvalue())
        return rows

    def append_metrics(self, row: Mapping[str, float | None]) -> None:
        """Adds a row to ``metrics.csv``."""
        with self.metrics.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(_printable(row))


def _printable(row: Mapping[str, float | None]) -> dict[str, object]:
    return {k: int(v) if k == "step" and v is not None else v for k, v in row.items()}
