"""Checkpoints: one file each (see ``tensor_file.py``), complete in itself, written atomically.

Tensors are named ``model.*``, ``raw.*``, ``optimizer.*`` and ``history.*``; the JSON holds the
rest: the strategy's description, its inputs, and where training stood. Nothing is pickled.

A run is taken up from a checkpoint alone: ``config.yaml`` and ``metrics.csv`` say the same for
people and other programs, and have no checksum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from quickstudy.deprecated import with_present_names
from quickstudy.errors import InputError
from quickstudy.runs.history import Row, as_rows, as_tensor
from quickstudy.saving.description import Description
from quickstudy.saving.tensor_file import Format, read, write

FORMAT = Format(
    "quickstudy checkpoint",
    3,
    "checkpoint",
    "Use another checkpoint of the run (best, last or previous) in its place, or train again.",
)


@dataclass
class Checkpoint:
    """Everything at one moment of training.

    Args:
        strategy: the strategy's description.
        inputs: how raw items become its inputs, as from ``Inputs.to_dict``.
        model: the strategy's state dict, for use.
        raw: the state dict from which training continues, if ``model`` is a moving average.
        optimizer: the optimiser's state by parameter and name, ``"encoder.weight.exp_avg"``; by the
            parameter's number in files of older versions.
        progress: where training stood, JSON-ready.
        settings: the trainer's settings, JSON-ready.
        classes: the names of the classes used, under "train" and "validation".
        config: what the run was started with, JSON-ready.
        history: the rows of its metrics until then.
        path: the file it was read from.
        frozen: the names of the parameters that are not trained; None in files of older versions.
        data: the identity of the training and validation data (see ``identity.py``), under "train"
            and "validation"; empty in files of older versions.
    """

    strategy: Description
    inputs: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    path: Path | None = None
    raw: dict[str, Tensor] = field(default_factory=dict)
    frozen: list[str] | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path, keep: Path | None = None) -> None:
        """Writes the file in one piece; a former file at ``path`` is moved to ``keep``."""
        tensors = {f"model.{k}": v for k, v in self.model.items()}
        tensors |= {f"raw.{k}": v for k, v in self.raw.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.items()}
        tensors["history.rows"] = as_tensor(self.history)
        header = {
            "strategy": self.strategy,
            "inputs": self.inputs,
            "progress": self.progress,
            "settings": self.settings,
            "classes": self.classes,
            "config": self.config,
            "frozen": self.frozen,
            "data": self.data,
        }
        write(path, FORMAT, header, tensors, keep)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads a checkpoint.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is damaged or not one of this package's.
        """
        header, tensors = read(path, FORMAT)
        parts: dict[str, dict[str, Tensor]] = {
            part: {} for part in ("model", "raw", "optimizer", "history")
        }
        try:
            for name, tensor in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = tensor
            return cls(
                header["strategy"],
                header["inputs"],
                parts["model"],
                parts["optimizer"],
                header["progress"],
                with_present_names(header["settings"]),
                header["classes"],
                with_present_names(header["config"]),
                as_rows(parts["history"]["rows"]),
                path,
                parts["raw"],
                header.get("frozen"),
                dict(header.get("data", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The checkpoint {path} is not as this version of quickstudy writes them ({error})."
            ) from error

    def restore_model(self, strategy: nn.Module) -> None:
        """Puts the saved φ into ``strategy``; a plain error when it does not fit."""
        try:
            strategy.load_state_dict(self.model)
        except RuntimeError as error:
            raise InputError(
                f"The checkpoint's parameters do not fit {type(strategy).__name__}: {error}"
            ) from error
