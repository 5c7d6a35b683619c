from .callbacks import Callback
from .trainer import Trainer, fit

__all__ = [
    "Callback",
    "Trainer",
    "fit",
]
