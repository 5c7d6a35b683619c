"""Learning-rate schedules, as functions of how much of the run is done."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "cosine", "linear"]


def learning_rate_factor(schedule: Schedule, done: float, step: int, warmup_steps: int) -> float:
    """What the learning rate is multiplied with.

    Args:
        schedule: "constant", "cosine" (half a cosine, from 1 to 0) or "linear" (from 1 to 0).
        done: the fraction of the run that is done, 0 to 1.
        step: steps done, for the warm-up.
        warmup_steps: the rate first grows linearly over so many steps.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if schedule == "linear":
        return warm * max(0.0, 1 - done)
    return warm
