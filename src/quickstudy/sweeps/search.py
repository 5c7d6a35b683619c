"""The search: which trials are trained, and how far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from quickstudy.sweeps.executors import Executor, sentence
from quickstudy.sweeps.halving import Rung, promoted
from quickstudy.sweeps.trial import Outcome, Trial

State = Literal["waiting", "paused", "left", "finished", "failed"]


@dataclass
class Standing:
    """How far a trial has come.

    Args:
        trial: the trial.
        state: "waiting" for its first rung, "paused" after a rung that is still running, "left" if
            other trials were promoted instead, "finished", or "failed".
        rung: the latest rung that it began, from 0.
        outcome: outcome of the latest rung that it completed.
        error: why it failed, in a sentence.
    """

    trial: Trial
    state: State = "waiting"
    rung: int = 0
    outcome: Outcome | None = None
    error: str = ""

    @property
    def score(self) -> float | None:
        """The objective, for trials that have not failed."""
        return None if self.outcome is None or self.state == "failed" else self.outcome.accuracy


def search(
    trials: Sequence[Trial],
    rungs: Sequence[Rung],
    executor: Executor,
    work: Callable[[Trial], Outcome],
    recall: Callable[[Trial], Outcome | None],
    tell: Callable[[Sequence[Standing], Standing], Any],
) -> tuple[list[Standing], bool]:
    """Trains trials rung after rung.

    All trials of a rung are trained before any is promoted, and equal trials are promoted in their
    order, so the result does not depend on how many are trained at a time or which ends first.

    Args:
        trials: all trials of the first rung.
        rungs: the stages; a single one without a limit of steps if nothing is halved.
        executor: where ``work`` is done.
        work: trains a trial as far as its ``until`` says. An error that it raises is its trial's;
            the others go on.
        recall: what is known of a trial that was trained so far already; it is not trained again.
        tell: called with all and with the one that changed.

    Returns:
        Where each trial stands, in their order, and whether the search came to its end: it does
        not when a trial is interrupted.
    """
    standings = [Standing(trial) for trial in trials]
    running = standings
    for level, rung in enumerate(rungs):
        if level:
            scores = [standing.score for standing in running]
            chosen = [running[number] for number in promoted(scores, rung.trials)]
            going_on = {standing.trial.number for standing in chosen}
            for standing in running:
                if standing.state == "paused" and standing.trial.number not in going_on:
                    standing.state = "left"
            running = chosen
        done: State = "finished" if level == len(rungs) - 1 else "paused"
        waiting: list[Standing] = []
        for standing in running:
            standing.rung = level
            standing.trial = replace(standing.trial, until=rung.steps)
            try:
                known = recall(standing.trial)
            except ValueError as error:
                standing.state, standing.error = "failed", str(error)
                tell(standings, standing)
                continue
            if known is None or not known.reached:
                waiting.append(standing)
            else:
                standing.outcome, standing.state = known, done
        for number, found in executor.run(work, [standing.trial for standing in waiting]):
            standing = waiting[number]
            if isinstance(found, Exception):
                standing.state, standing.error = "failed", sentence(found)
            elif found.reached:
                standing.outcome, standing.state = found, done
            else:
                return standings, False
            tell(standings, standing)
    return standings, True


def ranked(standings: Sequence[Standing]) -> list[Standing]:
    """Best first: by the rung that was reached, then by the objective; those that failed last."""
    return sorted(
        standings,
        key=lambda one: (one.score is None, -one.rung, -(one.score or 0.0), one.trial.number),
    )
