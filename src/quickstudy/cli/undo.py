"""``quickstudy undo``: takes back the last change of a classifier's file."""

from __future__ import annotations

from pathlib import Path

from quickstudy.classifier.history import changes_of, undo
from quickstudy.cli.output import say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import show_table


def run(given: Given) -> int:
    """Undoes the last change, or lists the changes; returns the exit code."""
    options = parsed(given)
    path = Path(options.file)
    if options.list or options.json:
        changes = enumerate(changes_of(path), 1)
        show_table([{"step": step, "change": what} for step, what in changes], json=options.json)
        return 0
    what = undo(path)
    count = len(changes_of(path))
    more = (
        f"{count} earlier changes can be undone" if count != 1 else "1 earlier change can be undone"
    )
    say(f"Undone: {what} {more}. Written to {path}.")
    return 0
