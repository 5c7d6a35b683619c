"""How surely an input belongs to any of the classes; in numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError

Floats = NDArray[np.floating[Any]]

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class OutOfDistributionScore:
    """The nearness of the nearest class mean: s(x) = −min over k of ‖f(x) − m_k‖².

    Distances to class means tell unknown classes from known ones where probabilities do not, which
    must sum to 1 over the known ones however far away x is (Mensink, Verbeek, Perronnin, Csurka,
    "Distance-Based Image Classification", PAMI 2013; Bendale, Boult, "Towards Open World
    Recognition", CVPR 2015). The scores of known inputs are learned from held-out examples: each is
    compared with the mean of the others of its class.

    Args:
        means: m, ``[K, D]``.
        of_known: the scores of held-out examples, ascending, ``[M]``.
    """

    means: Floats
    of_known: Floats

    @classmethod
    def fitted(
        cls,
        features: Floats,
        targets: NDArray[np.int64],
        ways: int,
        held_out: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Learns from the features of the support ``[N, D]``, as the learner compares them.

        Args:
            features: features of the support.
            targets: its classes ``[N]``.
            ways: the number of classes K.
            held_out: a mask ``[N]`` of the examples that are like the inputs to come; all by
                default.
        """
        sizes = np.bincount(targets, minlength=ways)
        members = targets == np.arange(ways)[:, None]
        means = members.astype(features.dtype) @ features / np.maximum(sizes, 1)[:, None]
        means = means.astype(features.dtype)
        asked = sizes[targets] > 1
        if held_out is not None:
            asked &= held_out
        x, y, n = features[asked].astype(np.float64), targets[asked], sizes[targets][asked]
        # The distance to the mean of the others, which with noise of one variance is
        # (1 + 1/(n-1)) / (1 + 1/n) times that of an input to come.
        others = np.square(x - means[y]).sum(1) * (n / (n - 1)) ** 2
        own = others * (1 + 1 / n) / (1 + 1 / (n - 1))
        between = _squares(x, means.astype(np.float64))
        between[np.arange(len(y)), y] = own
        nearest = between.argmin(1)
        squares = np.where(nearest == y, own, np.square(x - means[nearest]).sum(1))
        return cls(means, np.sort(-squares).astype(features.dtype))

    def scores(self, features: Floats) -> Floats:
        """The scores s ``[Q]`` of features ``[Q, D]``: the higher, the more surely known."""
        means = self.means.astype(np.float64)
        scores = np.empty(len(features))
        for first in range(0, len(features), ROWS_AT_ONCE):
            x = features[first : first + ROWS_AT_ONCE].astype(np.float64)
            nearest = means[_squares(x, means).argmin(1)]
            scores[first : first + len(x)] = -np.square(x - nearest).sum(1)  # 0 where x is a mean
        return scores

    def threshold(self, share: float) -> float:
        """The score that this share of inputs of known classes reaches.

        Raises:
            ValueError: when the share is not between 0 and 1, or no class has two examples.
        """
        if not 0 < share < 1:
            raise InputError(
                f"The share of known inputs to keep is {share}; it must lie between 0 and 1, such "
                "as 0.95."
            )
        if not len(self.of_known):
            raise InputError(
                "How near inputs of known classes are is measured on held-out examples, but every "
                "class has only one example; give at least two of some classes."
            )
        rank = int((1 - share) * (len(self.of_known) + 1))
        return float(self.of_known[rank - 1]) if rank else self._below_all(share)

    def _below_all(self, share: float) -> float:
        """The threshold where so few examples were held out that it lies below all their scores.

        The logarithms of the squared distances are taken for a sample of a normal distribution;
        Student's t then bounds one more of them.
        """
        if len(self.of_known) < 2:
            return -math.inf
        logs = np.log(np.maximum(-self.of_known.astype(np.float64), 1e-30))
        spread = float(logs.std(ddof=1)) * math.sqrt(1 + 1 / len(logs))
        bound = float(logs.mean()) + student_quantile(share, len(logs) - 1) * spread
        return min(float(self.of_known[0]), -math.exp(min(bound, 700.0)))


def _squares(x: Floats, means: Floats) -> Floats:
    """Squared distances ``[Q, K]`` of vectors ``[Q, D]`` to means ``[K, D]``, to rounding."""
    lengths = np.square(x).sum(1)[:, None] + np.square(means).sum(1)
    squares: Floats = lengths - 2 * x @ means.T
    return squares


def student_quantile(share: float, freedom: int) -> float:
    """The value below which Student's t lies with probability ``share``, at least 1/2.

    From P(|t| < √n tan θ) for n degrees of freedom (Abramowitz, Stegun, "Handbook of Mathematical
    Functions", 1964, 26.7.3 and 26.7.4), by bisection.
    """
    odd = freedom % 2

    def within(theta: float) -> float:
        cosine, sine = math.cos(theta), math.sin(theta)
        term = total = float(freedom > 1)
        for k in range(1 + odd, freedom - 2, 2):
            term *= k / (k + 1) * cosine**2
            total += term
        return 2 / math.pi * (theta + sine * cosine * total) if odd else sine * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < 2 * share - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
