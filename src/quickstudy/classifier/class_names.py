"""The names of the classes, each as one more example of its class."""

from __future__ import annotations

import re

import torch.nn.functional as F
from torch import Tensor

from quickstudy.datasets.spelling import Labels

LEAST_SHARE = 1 / 3
"""Of the examples whose nearest name must be their own class's, for names to be of use."""

LEAST_CHANCE = 0.05
"""Names that chance would do as well with this probability are of no use."""


def spoken(classes: Labels) -> list[str] | None:
    """The names of the K classes as people would say them; None where labels are not words.

    ``card_about_to_expire`` and ``cardAboutToExpire`` are "card about to expire".
    """
    labels = classes.tolist()
    if not all(isinstance(label, str) for label in labels):
        return None
    parts = [re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-./:?]+", " ", label) for label in labels]
    names = [" ".join(part.split()) for part in parts]
    return names if all(any(map(str.isalpha, name)) for name in names) else None


def tell_classes_apart(names: Tensor, features: Tensor, targets: Tensor) -> bool:
    """Whether the names say of examples which class they are of, far more often than chance would.

    Args:
        names: the vectors of the classes' names, ``[K, D]``.
        features: those of the examples, ``[N, D]``.
        targets: their classes ``[N]``.
    """
    ways, count = len(names), len(features)
    nearest = (F.normalize(features, dim=1) @ F.normalize(names, dim=1).mT).argmax(1)
    hits = int((nearest == targets.to(nearest.device)).sum())
    from scipy.stats import binom

    by_chance = binom.sf(hits - 1, count, 1 / ways)  # of so many hits or more
    return bool(hits >= LEAST_SHARE * count and by_chance < LEAST_CHANCE)
