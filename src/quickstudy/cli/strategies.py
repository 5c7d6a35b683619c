"""``quickstudy strategies``: the ways to learn to learn."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from quickstudy.cli.output import show
from quickstudy.cli.parsing import new_parser, parse
from quickstudy.strategies.catalogue import FAMILIES, markdown, strategies


def run(words: Sequence[str]) -> int:
    """Lists the strategies; returns the exit code."""
    parser = new_parser(
        "strategies",
        "List the strategies of the package. --strategy takes one of these names, or the import "
        "path of a class of your own.",
    )
    parser.add_argument("--markdown", action="store_true", help="as a page of the documentation")
    if parse(parser, words).markdown:
        print(markdown(), end="")
        return 0
    entries = strategies()
    for family, idea in FAMILIES.items():
        table = Table(title=f"{family.replace('_', ' ')}: {idea}", title_justify="left")
        table.add_column("name", no_wrap=True)
        for column in ("idea", "paper", "transductive", "regression", "trained on"):
            table.add_column(column)
        for entry in entries:
            if entry.family == family:
                table.add_row(
                    entry.name,
                    entry.summary,
                    entry.paper or "-",
                    entry.transductive,
                    "yes" if entry.regression else "no",
                    entry.trained_on,
                )
        show(table)
    return 0
