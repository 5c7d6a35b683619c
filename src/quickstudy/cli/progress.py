"""Progress on standard error: a bar on a terminal, else a line every some seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from quickstudy.cli.output import complain
from quickstudy.progress import listening

FIRST_AFTER_SECONDS, EVERY_SECONDS = 1.0, 10.0


@contextmanager
def progress_shown(unless: bool = False) -> Iterator[None]:
    """Shows how far the work inside has come; nothing of work that takes less than a second.

    Args:
        unless: show nothing, because the answers themselves show it.
    """
    if unless:
        yield
        return
    if sys.stderr is None or not sys.stderr.isatty():
        with listening(Lines().told):
            yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    # Other output keeps its stream: rich would write it to standard error.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        tasks = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done, total=total or None)

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
        if now >= self.next and (done < total or not total):
            complain(f"{what}: {done} of {total}" if total else f"{what}: {done}")
            self.next = now + EVERY_SECONDS
