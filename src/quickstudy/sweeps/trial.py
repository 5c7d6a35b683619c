"""One training run of a sweep, and how far it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quickstudy.runs.run import RunDirectory
from quickstudy.sweeps.space import Values


@dataclass(frozen=True)
class Trial:
    """A training run of a sweep.

    Args:
        number: its number in the sweep, from 0.
        values: values of the varied parameters that apply to this trial.
        out: its run directory.
        options: options of the whole run, as the command line reads them.
        until: the step to stop after; None for the run's end.
        log: write what training prints into ``output.log`` of the run directory.
    """

    number: int
    values: Values
    out: str
    options: Any = field(repr=False, default=None)
    until: int | None = None
    log: bool = False


@dataclass(frozen=True)
class Outcome:
    """How far a run came, and the objective: accuracy on the meta-validation classes.

    Args:
        reached: whether it reached the requested step, or ended by itself.
        steps: number of completed steps.
        accuracy: best meta-validation accuracy so far; the best checkpoint has it.
        ci95: half-width of its 95 % interval over validation episodes.
        best_step: the step after which it was measured.
        seconds: training time.
    """

    reached: bool
    steps: int
    accuracy: float | None
    ci95: float | None
    best_step: int | None
    seconds: float


def outcome(out: str | Path, until: int | None = None) -> Outcome | None:
    """The outcome of a run after step ``until``, read from its directory; None if it is new.

    Later progress of the run is ignored, so that a repeated search makes the same decisions.

    Raises:
        ValueError: when its checkpoints are damaged.
    """
    saved = RunDirectory(out).newest()
    if saved is None:
        return None
    step = saved.progress["step"]
    last = step if until is None else min(step, until)
    rows = [row for row in saved.history if (row["step"] or 0) <= last]
    measured = [row for row in rows if row["validation_accuracy"] is not None]
    best = max(measured, key=lambda row: row["validation_accuracy"] or 0.0, default=None)
    return Outcome(
        reached=bool(saved.progress["finished"]) or (until is not None and step >= until),
        steps=last,
        accuracy=best["validation_accuracy"] if best else None,
        ci95=best["validation_ci95"] if best else None,
        best_step=int(best["step"] or 0) if best else None,
        seconds=(rows[-1]["seconds"] or 0.0) if rows else 0.0,
    )
