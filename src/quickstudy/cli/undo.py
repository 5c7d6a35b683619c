"""``quickstudy undo``: takes back the last change of a classifier's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quickstudy.classifier.history import MOST_CHANGES, changes_of, undo
from quickstudy.cli.output import say
from quickstudy.cli.parsing import add_trust, new_parser, parse
from quickstudy.cli.tables import show_table


def run(words: Sequence[str]) -> int:
    """Undoes the last change, or lists the changes; returns the exit code."""
    parser = new_parser(
        "undo",
        "Take back the last change that add, remove or relabel made to a classifier, which then "
        "answers exactly as before. Run it again to take back the change before that one. The "
        f"file itself remembers the last {MOST_CHANGES} changes, or fewer if it would grow by more "
        "than half (files under 0.5 MB may grow more); the last one can always be undone.",
    )
    parser.add_argument("file", type=str, help="the classifier's file")
    parser.add_argument(
        "--list", action="store_true", help="list the changes, the last one first; undo nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    add_trust(parser)
    options = parse(parser, words)
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
