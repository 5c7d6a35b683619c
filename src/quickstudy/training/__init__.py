"""How φ is learned: the loop, run directories, checkpoints.

The trainer is imported when it is first used: loading what was trained does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quickstudy.training.checkpoint import Checkpoint
from quickstudy.training.run import Run, load

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer, fit

__all__ = ["Checkpoint", "Run", "Trainer", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name not in ("Trainer", "fit"):
        raise AttributeError(f"module 'quickstudy.training' has no attribute {name!r}")
    from quickstudy.training import trainer

    return getattr(trainer, name)
