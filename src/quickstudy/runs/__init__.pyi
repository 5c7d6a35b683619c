from .checkpoint import Checkpoint
from .run import Run, RunDirectory, load

__all__ = [
    "Checkpoint",
    "Run",
    "RunDirectory",
    "load",
]
