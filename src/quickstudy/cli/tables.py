"""Tables: readable on a terminal, tab-separated values into a pipe, JSON on request.

A table is a list of records, which are dictionaries with the same keys. Into pipes and JSON go the
values as they are; only a terminal gets rounded numbers, titles and notes on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quickstudy.cli.output import complain, print_json, say, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from quickstudy.evaluation import Report

Record = Mapping[str, Any]

LONGEST_UNBROKEN = 28
"""Columns of longer texts are broken into lines where a terminal is too narrow."""


def show_table(
    records: Sequence[Record],
    *,
    json: bool = False,
    whole: Any = None,
    title: str = "",
    shown: Mapping[str, Callable[[Any], str]] | None = None,
    names: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    table: RenderableType | None = None,
) -> None:
    """Prints records on standard output, in the form that suits whoever reads it.

    Args:
        records: rows of the table, with the same keys in the same order.
        json: whether JSON was asked for.
        whole: what JSON holds instead of the records, such as an object with more than the table.
        title: heading on a terminal.
        shown: how to write the values of a column on a terminal; by default as text.
        names: headings on a terminal, if they differ from the keys.
        hidden: columns that a terminal has no room for.
        table: what a terminal gets instead of these records.

    Raises:
        OSError: when standard output cannot be written.
    """
    if json:
        print_json(list(records) if whole is None else whole)
    elif to_terminal() and table is not None:
        show(table)
    elif to_terminal():
        _show_on_terminal(records, title, shown or {}, names or {}, hidden)
    elif records:
        print(tsv(records[0]))
        for record in records:
            print(tsv(record.values()))


def show_facts(facts: Record, *, json: bool = False, whole: Any = None, title: str = "") -> None:
    """Prints the values of one record, each on a line of its own beside its name."""
    if json or not to_terminal():
        rows = [{"name": name, "value": value} for name, value in facts.items()]
        show_table(rows, json=json, whole=dict(facts) if whole is None else whole)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = escape(title), "left"
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(escape(name), escape(as_text(value)))
    show(table)


def note(text: str) -> None:
    """Prints a remark beside a table: to standard error where standard output is for a program."""
    if to_terminal():
        say(text)
    else:
        complain(text)


def hint(text: str) -> None:
    """Prints a hint on a terminal; in a pipe it prints nothing."""
    if to_terminal():
        print(text)


def accuracies(reports: Iterable[Report]) -> dict[str, float]:
    """Columns of a table: the accuracy under each protocol, with its interval."""
    found = {}
    for report in reports:
        found[report.protocol] = report.accuracy.mean
        found[f"{report.protocol} ci95"] = report.accuracy.ci95
    return found


def to_terminal() -> bool:
    """Whether a person reads standard output, rather than a file or another program."""
    return sys.stdout is not None and sys.stdout.isatty()


def tsv(values: Iterable[Any]) -> str:
    r"""One line of tab-separated values; tabs and line breaks in a value become \t, \n and \r."""
    return "\t".join(map(cell, values))


def cell(value: Any) -> str:
    """A value in a line of tab-separated values; lists and dictionaries as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False)
    return str(value).replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def as_text(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_on_terminal(
    records: Sequence[Record],
    title: str,
    shown: Mapping[str, Callable[[Any], str]],
    names: Mapping[str, str],
    hidden: Sequence[str],
) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [key for key in (records[0] if records else ()) if key not in hidden]
    for key in columns:
        texts = [shown.get(key, as_text)(record[key]) for record in records]
        numeric = all(isinstance(record[key], int | float | None) for record in records)
        table.add_column(
            escape(names.get(key, key)),
            justify="right" if numeric else "left",
            no_wrap=max(map(len, texts), default=0) <= LONGEST_UNBROKEN,
            overflow="fold",
        )
    for record in records:
        table.add_row(*(escape(shown.get(key, as_text)(record[key])) for key in columns))
    show(table)
