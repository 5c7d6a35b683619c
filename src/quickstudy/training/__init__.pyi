from .trainer import Trainer, fit

__all__ = [
    "Trainer",
    "fit",
]
