"""The progress of a training run on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TrainingProgress:
    """A progress bar with loss, accuracy, speed and time left; plain lines in a log file.

    Args:
        steps: number of steps of the whole run.
        done: number of steps done before.
        shown: whether anything is shown.
    """

    def __init__(self, steps: int, done: int, shown: bool) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.steps = steps
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
        )
        self.task = self.bar.add_task("training", total=steps, completed=done, state="")

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, step: int) -> None:
        """Moves the bar to ``step``."""
        self.bar.update(self.task, completed=step)

    def log(self, row: dict[str, float | None], tasks_per_second: float) -> None:
        """Shows the latest row of the metrics."""
        words = [f"loss {row['loss']:.3f}"]
        if row["accuracy"] is not None:
            words.append(f"accuracy {row['accuracy']:.1%}")
        words.append(f"{tasks_per_second:.1f} tasks/s")
        self.bar.update(self.task, state="  ".join(words))
        validated = row["validation_accuracy"]
        if validated is not None:
            words.append(f"validation {validated:.2%} ± {row['validation_ci95']:.2%}")
        if validated is not None or not self.console.is_terminal:
            step = int(row["step"] or 0)
            seconds = row["seconds"] or 0.0
            line = f"step {step}/{self.steps}  {'  '.join(words)}  {seconds:.0f} s"
            self.say(line)

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def end(self, progress: dict[str, Any], interrupted: bool, path: Path | None) -> None:
        """Prints how the run ended, its best validation, and where it was saved."""
        if interrupted or not progress["finished"]:
            self.say(f"Stopped after step {progress['step']}.")
        elif progress["step"] < self.steps:
            self.say(f"Ended after step {progress['step']}, before all {self.steps}.")
        if progress["best_accuracy"] is not None:
            best = progress["best_accuracy"]
            found = f"accuracy {best:.2%}" if best >= 0 else f"squared error {-best:.4g}"
            self.say(f"Best validation {found}, after step {progress['best_step']}.")
        if path is not None:
            self.say(f"The run is in {path}.")
