"""Checkpoints: one safetensors file each, complete in itself, written atomically.

Tensors are named ``model.*`` and ``optimizer.*``; the file's JSON header holds the rest under the
key ``quickstudy``: the strategy's description, its inputs, and where training stood. Nothing is
pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from quickstudy.files import atomically
from quickstudy.training.description import Description

FORMAT = 1


@dataclass
class Checkpoint:
    """Everything at one moment of training.

    Args:
        strategy: the strategy's description.
        inputs: how raw things become its inputs, as ``Inputs.to_dict`` gives it.
        model: the strategy's state dict.
        optimizer: the optimiser's state by parameter number and name, ``"3.exp_avg"``.
        progress: where training stood, JSON-ready.
        settings: the trainer's settings, JSON-ready.
        classes: the names of the classes used, under "train" and "validation".
    """

    strategy: Description
    inputs: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the file beside ``path``, flushes it to the disk, and renames it."""
        tensors = {f"model.{k}": v for k, v in self.model.items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.items()}
        header = {
            "format": FORMAT,
            "strategy": self.strategy,
            "inputs": self.inputs,
            "progress": self.progress,
            "settings": self.settings,
            "classes": self.classes,
        }
        # Tensors may share memory or lie in channels-last order; files hold plain copies.
        plain = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        with atomically(path) as temporary:
            save_file(plain, temporary, metadata={"quickstudy": json.dumps(header)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads a checkpoint.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: when it is damaged or not one of this package's.
        """
        if not path.is_file():
            raise FileNotFoundError(f"There is no checkpoint {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["quickstudy"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header["format"] != FORMAT:
                raise ValueError(
                    f"The checkpoint {path} has format {header['format']}; this version of "
                    f"quickstudy reads format {FORMAT}. Use the version that wrote it."
                )
            return cls(
                header["strategy"],
                header["inputs"],
                {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")},
                {
                    k.removeprefix("optimizer."): v
                    for k, v in tensors.items()
                    if k.startswith("optimizer.")
                },
                header["progress"],
                header["settings"],
                header.get("classes", {}),
            )
        except (SafetensorError, KeyError, TypeError, UnicodeDecodeError, OSError) as error:
            raise ValueError(
                f"The checkpoint {path} is damaged or not one of quickstudy's ({error}). Use the "
                "run's other checkpoint (best or last) in its place, or train again."
            ) from error
        except json.JSONDecodeError as error:
            raise ValueError(f"The checkpoint {path} has a damaged header ({error}).") from error

    def restore_model(self, strategy: nn.Module) -> None:
        """Puts the saved φ into ``strategy``; a plain error when it does not fit."""
        try:
            strategy.load_state_dict(self.model)
        except RuntimeError as error:
            raise ValueError(
                f"The checkpoint's parameters do not fit {type(strategy).__name__}: {error}"
            ) from error

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Puts the saved optimiser state into ``optimizer``."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in self.optimizer.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter number and name, ``"3.exp_avg"``."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }
