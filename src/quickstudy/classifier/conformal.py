"""Sets of classes that hold the true one with a probability that was asked for."""

from __future__ import annotations

import math

from torch import Tensor

from quickstudy.errors import InputError


def prediction_sets(
    probabilities: Tensor,
    held_out: Tensor,
    targets: Tensor,
    coverage: float,
    by_fewer: Tensor | None = None,
    advance: float = 0.0,
) -> Tensor:
    """The classes that each query may be of: conformal prediction sets.

    A class belongs to the set if its probability is no less than what 1 − α of the true classes
    of known examples got from learners that had not seen them (Sadinle, Lei, Wasserman, "Least
    Ambiguous Set-Valued Classifiers With Bounded Error Levels", 2019, with all examples held out
    in turn, as there are too few to set some aside). Where the learner is right more often than
    was asked, some sets are empty: no class is probable enough.

    Those learners know less than the one in use, and a least probability found with them lets more
    in than was asked. So its log-odds go on as they went from learners that know still less, along
    the logarithm of the number of examples.

    Args:
        probabilities: of the queries, ``[Q, K]``.
        held_out: of the support examples, from learners that had not seen them, ``[N, K]``; rows
            of NaN do not count.
        targets: the support examples' classes ``[N]``.
        coverage: 1 − α, the share of queries whose set shall hold their class.
        by_fewer: like ``held_out``, from learners that had seen fewer examples.
        advance: how far it is from the learners of ``held_out`` to the one in use, in steps from
            those of ``by_fewer`` to those of ``held_out``: log(n / n₁) / log(n₁ / n₂) if they
            learned from n, n₁ and n₂ examples.

    Returns:
        ``[Q, K]``, true where the class belongs to the set.

    Raises:
        ValueError: when the coverage is not between 0 and 1, or no class has two examples.
    """
    if not 0 < coverage < 1:
        raise InputError(f"The coverage is {coverage}; it must lie between 0 and 1, as 0.9 does.")
    known = ~held_out.isnan().any(1)
    if not known.any():
        raise InputError(
            "Prediction sets are measured on examples that are held out, and every class has only "
            "one example; give at least two of some classes."
        )
    least = _quantile(_of_true(held_out, targets, known), 1 - coverage)
    both = known if by_fewer is None else known & ~by_fewer.isnan().any(1)
    if by_fewer is not None and advance and both.any() and least.isfinite():
        now, before = (
            _quantile(_of_true(each, targets, both), 1 - coverage) for each in (held_out, by_fewer)
        )
        if before.isfinite():
            least = least + advance * (now - before)
    return _log_odds(probabilities) >= least


def _of_true(probabilities: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
    """The log-odds of the true classes of some rows."""
    return _log_odds(probabilities[rows].gather(1, targets[rows][:, None])[:, 0])


def _log_odds(probabilities: Tensor) -> Tensor:
    return probabilities.double().logit(eps=1e-12)


def _quantile(scores: Tensor, share: float) -> Tensor:
    """What this share of n + 1 scores, those given and a further one, lies below.

    Between two scores it is interpolated: else few scores would make sets that cover more than was
    asked. Below all of them it is −∞, as nothing is known there.
    """
    ascending = scores.sort().values
    place = share * (len(scores) + 1) - 1
    if place < 0:
        return scores.new_tensor(-math.inf)
    low = min(int(place), len(scores) - 1)
    high = min(low + 1, len(scores) - 1)
    return ascending[low].lerp(ascending[high], place - low)
