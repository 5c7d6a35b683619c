"""The search: which trials are trained, and how far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from quickstudy.sweeps.executors import Executor, sentence
from quickstudy.sweeps.halving import Rung, promoted
from quickstudy.sweeps.trial import Outcome, Trial

Status = Literal["waiting", "paused", "left", "finished", "failed"]


@dataclass
class TrialState:
    """How far a trial has come.

    Args:
        trial: the trial.
        status: "waiting" for its first rung, "paused" after a rung that is still running, "left" if
            other trials were promoted instead, "finished", or "failed".
        rung: the latest rung that it began, from 0.
        outcome: outcome of the latest rung that it completed.
        error: why it failed, in a sentence.
    """

    trial: Trial
    status: Status = "waiting"
    rung: int = 0
    outcome: Outcome | None = None
    error: str = ""

    @property
    def score(self) -> float | None:
        """The objective, for trials that have not failed."""
        return None if self.outcome is None or self.status == "failed" else self.outcome.accuracy


def search(
    trials: Sequence[Trial],
    rungs: Sequence[Rung],
    executor: Executor,
    train: Callable[[Trial], Outcome],
    lookup: Callable[[Trial], Outcome | None],
    report: Callable[[Sequence[TrialState], TrialState], Any],
) -> tuple[list[TrialState], bool]:
    """Trains trials rung after rung.

    All trials of a rung are trained before any is promoted, and equal trials are promoted in their
    order, so the result does not depend on how many are trained at a time or which ends first.

    Args:
        trials: all trials of the first rung.
        rungs: the stages; a single one without a limit of steps if nothing is halved.
        executor: where ``train`` runs.
        train: trains a trial until its step ``until``. If it raises an error, that trial has
            failed, and the others go on.
        lookup: returns the outcome of a trial that was trained earlier, which is not repeated.
        report: called with the states of all trials and the one that changed.

    Returns:
        The state of each trial, in their order, and whether the search was completed: it is not
        when a trial is interrupted.
    """
    states = [TrialState(trial) for trial in trials]
    running = states
    for level, rung in enumerate(rungs):
        if level:
            scores = [state.score for state in running]
            chosen = [running[number] for number in promoted(scores, rung.trials)]
            going_on = {state.trial.number for state in chosen}
            for state in running:
                if state.status == "paused" and state.trial.number not in going_on:
                    state.status = "left"
            running = chosen
        done: Status = "finished" if level == len(rungs) - 1 else "paused"
        waiting: list[TrialState] = []
        for state in running:
            state.rung = level
            state.trial = replace(state.trial, until=rung.steps)
            try:
                known = lookup(state.trial)
            except ValueError as error:
                state.status, state.error = "failed", str(error)
                report(states, state)
                continue
            if known is None or not known.reached:
                waiting.append(state)
            else:
                state.outcome, state.status = known, done
        for number, found in executor.run(train, [state.trial for state in waiting]):
            state = waiting[number]
            if isinstance(found, Exception):
                state.status, state.error = "failed", sentence(found)
            elif found.reached:
                state.outcome, state.status = found, done
            else:
                return states, False
            report(states, state)
    return states, True


def ranked(states: Sequence[TrialState]) -> list[TrialState]:
    """Best first: by the rung that was reached, then by the objective; those that failed last."""
    return sorted(
        states,
        key=lambda one: (one.score is None, -one.rung, -(one.score or 0.0), one.trial.number),
    )
