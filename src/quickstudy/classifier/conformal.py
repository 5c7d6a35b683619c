"""Sets of classes that hold the true one with a probability that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def prediction_sets(
    probabilities: Sequence[Tensor], of_true: Sequence[Tensor], coverage: float
) -> Tensor:
    """The classes that each query may be of: cross-conformal prediction sets.

    Several learners have each not seen a part of the known examples. A class y belongs to the set
    of a query x if, among those examples and the query, more than a share α find their class no
    more probable than x finds y, each asked of the learner that has not seen the example:

        (1 + Σ_f #{i in part f: p_f(y_i | x_i) ≤ p_f(y | x)}) / (n + 1) > α

    Vovk, "Cross-conformal predictors", 2015, with the score of Sadinle, Lei, Wasserman, "Least
    Ambiguous Set-Valued Classifiers With Bounded Error Levels", 2019. As query and examples are
    asked of the same learners, it does not matter that these have seen fewer examples than the one
    that predicts. Where the learners are right more often than was asked, some sets are empty.

    Args:
        probabilities: of the queries by each of F learners, each ``[Q, K]``.
        of_true: the probability of their own classes that each learner gives to the examples that
            it has not seen, each ``[n_f]``.
        coverage: 1 − α, the share of queries whose set shall hold their class.

    Returns:
        ``[Q, K]``, true where the class belongs to the set.

    Raises:
        ValueError: when the coverage is not between 0 and 1, or nothing was held out.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"The coverage is {coverage}; it must lie between 0 and 1, as 0.9 does.")
    count = sum(map(len, of_true))
    if not count:
        raise ValueError(
            "Prediction sets are measured on examples that are held out, and every class has only "
            "one example; give at least two of some classes."
        )
    no_more_probable = torch.stack(
        [
            torch.searchsorted(scores.sort().values, found.contiguous(), right=True)
            for scores, found in zip(of_true, probabilities, strict=True)
        ]
    ).sum(0)
    # Rearranged, so that rounding does not decide where the two sides are equal.
    return count - no_more_probable < coverage * (count + 1) * (1 - 1e-12)
