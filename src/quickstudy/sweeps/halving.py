"""Successive halving: many trials for few steps, and the best of them for more.

Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
AISTATS 2016; with the factor η and rungs as in Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar,
"Hyperband", JMLR 2018, one bracket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quickstudy.errors import InputError


@dataclass(frozen=True)
class Rung:
    """One stage of a search.

    Args:
        trials: so many take part.
        steps: each is trained until this step in all; None for to its end.
    """

    trials: int
    steps: int | None


def halving_rungs(trials: int, steps: int, eta: int = 3, rungs: int | None = None) -> list[Rung]:
    """The stages: ``n / η^k`` trials train to step ``R / η^(K−1−k)``, k = 0 .. K−1.

    Here n is the number of trials, R that of a whole run's steps, and K that of rungs. Trials are
    rounded down (never below one), steps up.

    A trial that is promoted goes on from its checkpoint. Schedules of the learning rate (cosine,
    linear) span the whole run of R steps in every rung: a rung is a beginning of the whole run, not
    a small run of its own. Promoted trials therefore learn what they would have learned had they
    been trained alone, to the bit; and trials that are compared have equally high learning rates,
    which have not fallen yet, so that early rungs favour what learns quickly under the first part
    of its schedule.

    Args:
        trials: in the first rung.
        steps: of a whole run.
        eta: each rung keeps one trial of so many.
        rungs: how many; by default as many as leave one trial in the last.

    Raises:
        ValueError: when there are too few trials or steps for the rungs.
    """
    if eta < 2:
        raise InputError(f"eta is {eta}; it must be at least 2: one trial of eta is kept.")
    most = 1
    while eta**most <= trials:
        most += 1
    count = most if rungs is None else rungs
    if not 1 <= count <= most:
        raise InputError(
            f"{count} rungs were asked for; {trials} trials and eta {eta} allow 1 to {most}."
        )
    if eta ** (count - 1) > steps:
        raise InputError(
            f"{steps} steps cannot be divided into {count} rungs by eta {eta}: the first would "
            "have none. Train for more steps, or ask for fewer rungs or trials."
        )
    return [
        Rung(max(1, trials // eta**level), -(-steps // eta ** (count - 1 - level)))
        for level in range(count)
    ]


def promoted(scores: Sequence[float | None], count: int) -> list[int]:
    """Which trials go on: the ``count`` best, in their old order.

    Args:
        scores: higher is better; None for a trial that failed. Of equals the first is taken.
        count: how many are wanted; fewer go on where fewer have a score.
    """
    scored = [(-score, number) for number, score in enumerate(scores) if score is not None]
    return sorted(number for _, number in sorted(scored)[:count])
