"""Probabilities that mean what they say."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from torch import Tensor

PRIOR_SPREAD = math.log(2)
"""Standard deviation of log T before any example was held out: a factor of 2 either way."""

MOST_LOG_CHANGE = math.log(1000)


def fit_temperature(logits: Tensor, targets: Tensor, prior: float = 1.0) -> float:
    """The temperature T by which logits are divided to become calibrated.

        T = argmin Σ_n −log softmax(z_n / T)_{y_n} + (log T − log T₀)² / 2σ²

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section
    4.2, on examples that the learner had not seen. The second term, which the paper does not have,
    keeps T near T₀ where such examples are few.

    Args:
        logits: held out, z, ``[N, K]``; rows of NaN do not count.
        targets: classes ``[N]``.
        prior: T₀, which is the answer where no row counts.
    """
    known = ~logits.isnan().any(1)
    logits, targets = logits[known].double(), targets[known]
    if not len(logits):
        return prior

    def objective(log_change: float) -> float:
        scaled = logits / (prior * math.exp(log_change))
        loss = float(F.cross_entropy(scaled, targets, reduction="sum"))
        return loss + (log_change / PRIOR_SPREAD) ** 2 / 2

    # Not convex in log T, so the valley is found on a grid before its bottom is.
    from scipy.optimize import minimize_scalar

    grid = np.linspace(-MOST_LOG_CHANGE, MOST_LOG_CHANGE, 61)
    best = float(grid[int(np.argmin([objective(each) for each in grid]))])
    step = float(grid[1] - grid[0])
    found = minimize_scalar(objective, bounds=(best - step, best + step), method="bounded")
    return prior * math.exp(float(found.x))
