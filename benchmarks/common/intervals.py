"""Means with their 95 % confidence intervals, as tables show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.evaluation.outcomes import mean_and_interval

__all__ = ["mean_and_interval", "mean_of", "percent"]


def percent(accuracy: Mapping[str, float], digits: int) -> str:
    """A stored mean and its interval (``mean``, ``ci95``) in per cent."""
    return f"{100 * accuracy['mean']:.{digits}f} ± {100 * accuracy['ci95']:.{digits}f}"


def mean_of(values: Sequence[float] | NDArray[Any], sign: str = "") -> str:
    """The mean of a few values with its interval by Student's t, which a single value lacks.

    Args:
        values: numbers in the unit that is shown.
        sign: "+" shows the sign of positive means too.
    """
    _, interval = mean_and_interval(torch.as_tensor(np.asarray(values)))
    half = "" if math.isnan(interval) else f" ± {interval:.1f}"
    return f"{np.asarray(values).mean():{sign}.1f}{half}"
