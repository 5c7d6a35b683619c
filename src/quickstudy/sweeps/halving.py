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
        trials: number of trials that take part.
        steps: the step up to which each is trained; None for the end of the run.
    """

    trials: int
    steps: int | None


def halving_rungs(trials: int, steps: int, eta: int = 3, rungs: int | None = None) -> list[Rung]:
    """The stages: ``n / η^k`` trials train to step ``R / η^(K−1−k)``, k = 0 .. K−1.

    Here n is the number of trials, R the number of steps of a whole run, and K the number of rungs.
    Trials are rounded down (never below one), steps up.

    A promoted trial continues from its checkpoint. Schedules of the learning rate (cosine, linear)
    span the whole run of R steps in every rung: a rung is the beginning of the whole run, not a
    small run of its own. Promoted trials therefore equal, to the bit, the same trials trained
    alone. Early rungs compare trials before their learning rates fall, so they favour trials that
    learn quickly in the first part of their schedule.

    Args:
        trials: number of trials in the first rung.
        steps: number of steps of a whole run.
        eta: each rung keeps one trial in this many.
        rungs: number of rungs; by default as many as leave one trial in the last.

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
    """The trials to promote: the ``count`` best, in their old order.

    Args:
        scores: higher is better; None for a trial that failed. Among equal trials the first
            wins.
        count: number of trials to promote; fewer if fewer have a score.
    """
    scored = [(-score, number) for number, score in enumerate(scores) if score is not None]
    return sorted(number for _, number in sorted(scored)[:count])
