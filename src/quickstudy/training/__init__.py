"""How φ is learned: the loop, run directories, checkpoints."""

from quickstudy.training.checkpoint import Checkpoint
from quickstudy.training.run import Run, load
from quickstudy.training.trainer import Trainer, fit

__all__ = ["Checkpoint", "Run", "Trainer", "fit", "load"]
