"""Sets of classes that hold the true one with a probability that was asked for."""

from __future__ import annotations

from torch import Tensor


def prediction_sets(
    probabilities: Tensor, held_out: Tensor, targets: Tensor, coverage: float
) -> Tensor:
    """The classes that each query may be of: conformal prediction sets.

    A class belongs to the set if its probability is no less than what 1 − α of the true classes
    of known examples got from learners that had not seen them (Sadinle, Lei, Wasserman, "Least
    Ambiguous Set-Valued Classifiers With Bounded Error Levels", 2019, with all examples held out
    in turn, as there are too few to set some aside). Where the learner is right more often than
    was asked, some sets are empty: no class is probable enough.

    Args:
        probabilities: of the queries, ``[Q, K]``.
        held_out: of the support examples, from learners that had not seen them, ``[N, K]``; rows
            of NaN do not count.
        targets: the support examples' classes ``[N]``.
        coverage: 1 − α, the share of queries whose set shall hold their class.

    Returns:
        ``[Q, K]``, true where the class belongs to the set.

    Raises:
        ValueError: when the coverage is not between 0 and 1, or no class has two examples.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"The coverage is {coverage}; it must lie between 0 and 1, as 0.9 does.")
    known = ~held_out.isnan().any(1)
    if not known.any():
        raise ValueError(
            "Prediction sets are measured on examples that are held out, and every class has only "
            "one example; give at least two of some classes."
        )
    of_true = held_out[known].gather(1, targets[known][:, None])[:, 0]
    return probabilities >= _quantile(of_true, 1 - coverage)


def _quantile(scores: Tensor, share: float) -> Tensor:
    """What this share of n + 1 scores, those given and a further one, lies below.

    Between two scores it is interpolated: else few scores would make sets that cover more than was
    asked. Below all of them it is 0, as nothing is known there.
    """
    ascending = scores.sort().values
    place = share * (len(scores) + 1) - 1
    if place < 0:
        return scores.new_tensor(0.0)
    low = min(int(place), len(scores) - 1)
    high = min(low + 1, len(scores) - 1)
    return ascending[low].lerp(ascending[high], place - low)
