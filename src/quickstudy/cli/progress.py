"""Progress on standard error: a bar on a terminal, else a line every some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from quickstudy.cli.output import complain
from quickstudy.progress import listening

FIRST_AFTER_SECONDS, EVERY_SECONDS = 1.0, 10.0


@contextmanager
def progress_shown() -> Iterator[None]:
    """Shows how far the work inside has come; nothing of work that takes less than a second."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        with listening(Lines().told):
            yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        with listening(told):
            yield


class Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self.next: float | None = None

    def told(self, what: str, done: int, total: int) -> None:
        """Prints a line when the last one is some seconds ago, but not of what is done."""
        now = time.monotonic()
        if self.next is None:
            self.next = now + FIRST_AFTER_SECONDS
        if now >= self.next and done < total:
            complain(f"{what}: {done} of {total}")
            self.next = now + EVERY_SECONDS
