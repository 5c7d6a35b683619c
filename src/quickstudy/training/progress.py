"""What a person sees of a training run."""

from __future__ import annotations

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
    """A progress bar with loss, accuracy, tasks a second and time left; plain lines in a log file.

    Args:
        steps: in the whole run.
        done: steps done before.
        shown: show anything at all.
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
