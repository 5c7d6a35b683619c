"""The optimiser of φ, and the schedule of its learning rate."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from quickstudy.errors import InputError

OptimizerName = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine", "linear"]


def make_optimizer(
    name: OptimizerName,
    parameters: list[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Adam, or stochastic gradient descent with Nesterov momentum 0.9.

    Raises:
        ValueError: when there is nothing to learn, or no such optimiser.
    """
    if not parameters:
        raise InputError("The strategy has no parameters to learn, so it cannot be trained.")
    if name == "adam":
        return torch.optim.Adam(parameters, learning_rate, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
    raise InputError(f"The optimizer {name!r} is unknown; choose adam or sgd.")


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
