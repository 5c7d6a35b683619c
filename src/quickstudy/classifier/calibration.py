"""How far the answers of a learner can be trusted, measured on held-out examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from quickstudy.classifier.out_of_distribution import OutOfDistributionScore

PRIOR_SPREAD = math.log(2)
"""Standard deviation of log T before any example was held out: a factor of 2 either way."""

MOST_LOG_CHANGE = math.log(1000)


@dataclass(frozen=True)
class Calibration:
    """The measurements on held-out examples, as a classifier's file stores them.

    Args:
        out_of_fold: logits ``[N, K]`` from learners that had not seen the example; rows of NaN for
            examples that cannot be held out.
        temperature: divisor of the logits.
        out_of_distribution: how surely an input belongs to any of the classes.
        by_fewer: like ``out_of_fold``, from learners that had also seen fewer examples.
        advance: how far to extrapolate from the learners of ``out_of_fold`` to the one in use, in
            steps from those of ``by_fewer`` to those of ``out_of_fold``; 0 if that is unknown.
    """

    out_of_fold: Tensor
    temperature: float
    out_of_distribution: OutOfDistributionScore
    by_fewer: Tensor
    advance: float


def fit_temperature(logits: Tensor, targets: Tensor, prior: float = 1.0) -> float:
    """The temperature T by which logits are divided to become calibrated.

        T = argmin Σ_n −log softmax(z_n / T)_{y_n} + (log T − log T₀)² / 2σ²

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section
    4.2, on examples that the learner had not seen. The second term, which the paper does not have,
    keeps T near T₀ if there are few such examples.

    Args:
        logits: out of fold, z, ``[N, K]``; rows of NaN do not count.
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
