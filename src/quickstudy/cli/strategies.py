"""``quickstudy strategies``: the ways to learn to learn."""

from __future__ import annotations

import dataclasses

from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import hint, show_table, to_terminal
from quickstudy.messages import UsageError, did_you_mean
from quickstudy.strategies.catalogue import (
    FAMILIES,
    Argument,
    arguments,
    documentation,
    markdown,
    strategies,
)


def run(given: Given) -> int:
    """Lists the strategies, or shows one of them; returns the exit code."""
    options = parsed(given)
    if options.markdown:
        print(markdown(), end="")
        return 0
    entries = {entry.name: entry for entry in strategies()}
    if options.name is not None:
        return _show(options.name, options.json)
    records = [dataclasses.asdict(entry) for entry in entries.values()]
    if options.json or not to_terminal():
        show_table(records, json=options.json)
        return 0
    for family, idea in FAMILIES.items():
        show_table(
            [record for record in records if record["family"] == family],
            title=f"{family.replace('_', ' ')}: {idea}",
            hidden=("family", "paper", "transductive", "regression", "trained_on"),
            names={"summary": "idea"},
        )
    hint("`quickstudy strategies NAME` shows the paper, the equation and the arguments of one.")
    return 0


def _show(name: str, json: bool) -> int:
    entries = {entry.name: entry for entry in strategies()}
    if name not in entries:
        lower = {each.lower(): each for each in entries}
        near = lower.get(name.lower())
        meant = f" Did you mean {near!r}?" if near else did_you_mean(name, entries)
        raise UsageError(
            f"There is no strategy {name!r}.{meant} `quickstudy strategies` lists them all."
        )
    entry = entries[name]
    found = arguments(name)
    facts = dataclasses.asdict(entry) | {"documentation": documentation(name)}
    if json or not to_terminal():
        table = [_record(each) for each in found]
        show_table(table, json=json, whole=facts | {"arguments": table})
        return 0
    print(f"{entry.name}: {entry.family.replace('_', ' ')}\n\n{facts['documentation']}\n")
    print(
        f"Transductive: {entry.transductive}. Learns regression: "
        f"{'yes' if entry.regression else 'no'}. Trained on: {entry.trained_on}."
    )
    if found:
        table = [_record(each) for each in found]
        show_table(table, hidden=("help",), names={"argument": f"--strategy {name}"})
    return 0


def _record(argument: Argument) -> dict[str, str | None]:
    return {
        "argument": f"--strategy.{argument.name}",
        "type": argument.type,
        "default": argument.default,
        "help": argument.help,
    }
