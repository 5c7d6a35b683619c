"""``quickstudy datasets``: what there is to learn from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from quickstudy.cli.output import show
from quickstudy.cli.parsing import new_parser, parse
from quickstudy.datasets import available_datasets


def run(words: Sequence[str]) -> int:
    """Lists the data sets; returns the exit code."""
    parser = new_parser(
        "datasets",
        "List the data sets that are known by name. Besides them, --data takes a "
        "folder of images, texts or sounds (a sub-folder a class), a table with a column of "
        "inputs and one of labels, a folder laid out like a repository of the Hugging Face hub, "
        "and a repository's name.",
    )
    parse(parser, words)
    table = Table(title="Data sets", show_lines=True)
    for column in ("name", "modality", "what", "classes", "each", "splits", "where"):
        table.add_column(column, no_wrap=column in ("name", "modality"))
    for entry in available_datasets():
        benchmark = entry.benchmark
        turned = " x 4 rotations" if benchmark.rotations else ""
        table.add_row(
            benchmark.name,
            benchmark.modality,
            benchmark.description,
            f"{benchmark.classes}{turned}",
            _each(benchmark.examples_per_class),
            ", ".join(benchmark.splits),
            entry.place,
        )
    show(table)
    for entry in available_datasets():
        print(f"{entry.benchmark.name}: {entry.benchmark.citation}")
    return 0


def _each(examples: int | tuple[int, int] | None) -> str:
    if examples is None:
        return "varies"
    return f"{examples[0]} to {examples[1]}" if isinstance(examples, tuple) else str(examples)
