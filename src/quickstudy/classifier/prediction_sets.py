"""Sets of classes that hold the true one with a probability that was asked for; in numpy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError

Floats = NDArray[np.floating[Any]]

LEAST = 1e-12
"""Probabilities count as at least this far from 0 and 1."""


@dataclass(frozen=True, eq=False)
class SetThreshold:
    """How probable a class must be to belong to a prediction set.

    A class belongs to the set if its probability is at least that which a share 1 − α of the true
    classes of known examples got from learners that had not seen them (Sadinle, Lei, Wasserman,
    "Least Ambiguous Set-Valued Classifiers With Bounded Error Levels", 2019, with all examples held
    out in turn, as there are too few to set some aside). When the learner is right more often than
    was asked, some sets are empty: no class is probable enough.

    Those learners know less than the one in use, and a threshold found with them lets in more than
    was asked. So its log-odds are extrapolated from learners that know still less, along the
    logarithm of the number of examples.

    Args:
        of_true: log-odds of the true classes of the held-out examples, ``[M]``.
        now: the same for the examples that learners of fewer examples could hold out too, ``[B]``.
        before: the log-odds by those learners of fewer examples, ``[B]``.
        advance: log(n / n₁) / log(n₁ / n₂), if the learner in use and those of ``now`` and
            ``before`` learned from n, n₁ and n₂ examples.
    """

    of_true: Floats
    now: Floats
    before: Floats
    advance: float

    @classmethod
    def fitted(
        cls,
        held_out: Floats,
        by_fewer: Floats,
        targets: NDArray[np.int64],
        advance: float,
    ) -> Self:
        """Takes what it needs from the probabilities that held-out examples got.

        Args:
            held_out: from learners that had not seen them, ``[N, K]``; rows of NaN do not count.
            by_fewer: from learners that had also seen fewer examples.
            targets: their true classes ``[N]``.
            advance: as in the class.
        """
        rows = np.arange(len(targets))
        of_true, of_fewer = (log_odds(each[rows, targets]) for each in (held_out, by_fewer))
        known, both = ~np.isnan(of_true), ~np.isnan(of_true + of_fewer)
        return cls(of_true[known], of_true[both], of_fewer[both], advance)

    def at(self, coverage: float) -> float:
        """The least log-odds of a class in sets that hold this share of the true classes.

        Raises:
            ValueError: when the coverage is not between 0 and 1, or no class has two examples.
        """
        if not 0 < coverage < 1:
            raise InputError(
                f"The coverage is {coverage}; it must lie between 0 and 1, such as 0.9."
            )
        if not len(self.of_true):
            raise InputError(
                "Prediction sets are measured on held-out examples, but every class has only one "
                "example; give at least two of some classes."
            )
        least = _quantile(self.of_true, 1 - coverage)
        if self.advance and len(self.now):
            now, before = (_quantile(each, 1 - coverage) for each in (self.now, self.before))
            if math.isfinite(before):
                least += self.advance * (now - before)
        return least


def log_odds(probabilities: Floats) -> Floats:
    """log(p / (1 − p))."""
    p = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    odds: Floats = np.log(p / (1 - p))
    return odds


def _quantile(scores: Floats, share: float) -> float:
    """The number below which this share of n + 1 scores lies: those given and a further one.

    It is interpolated between two scores: otherwise few scores would make sets that cover more than
    was asked. Below all of them it is −∞, as nothing is known there.
    """
    if share * (len(scores) + 1) < 1:
        return -math.inf
    return float(np.quantile(scores, share, method="weibull"))
