"""``quickstudy datasets``: the data sets that are known by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import hint, show_facts, show_table
from quickstudy.datasets import available_datasets
from quickstudy.datasets.sources.catalogue import ALIASES, Availability, Benchmark
from quickstudy.datasets.sources.class_splits import read_class_splits
from quickstudy.messages import UsageError, did_you_mean

_LICENCE = re.compile(r"^licen[cs]e\b[: ]*(.+?)(?:\.\s|\.?$)", re.IGNORECASE | re.MULTILINE)
_LONGEST_README_BYTES = 2**20


def run(given: Given) -> int:
    """Lists the data sets, or shows one of them; returns the exit code."""
    options = parsed(given)
    found = {entry.benchmark.name: entry for entry in available_datasets()}
    if options.name is not None:
        name = ALIASES.get(options.name, (options.name, ""))[0]
        if name not in found:
            raise UsageError(
                f"There is no data set {options.name!r}.{did_you_mean(name, found)} `quickstudy "
                "datasets` lists those that are known by name."
            )
        show_facts(_details(found[name]), json=options.json)
        return 0
    show_table(
        [_summary(entry) for entry in found.values()],
        json=options.json,
        hidden=("examples_per_class", "splits", "where", "citation"),
    )
    if not options.json:
        hint("`quickstudy datasets NAME` shows where one is found, its splits and its citation.")
    return 0


def _summary(entry: Availability) -> dict[str, Any]:
    benchmark = entry.benchmark
    return {
        "name": benchmark.name,
        "modality": benchmark.modality,
        "classes": benchmark.classes,
        "ready": entry.found,
        "description": benchmark.description,
        "examples_per_class": benchmark.examples_per_class,
        "splits": list(benchmark.splits),
        "where": entry.place,
        "citation": benchmark.citation,
    }


def _details(entry: Availability) -> dict[str, Any]:
    """All that is known of a data set without reading its examples."""
    benchmark, summary = entry.benchmark, _summary(entry)
    folder = benchmark.local_folder()
    details = {key: summary[key] for key in ("name", "description", "modality", "classes")}
    if benchmark.rotations:
        details["classes with rotations"] = 4 * benchmark.classes
    details["examples per class"] = _in_words(benchmark.examples_per_class)
    details |= {f"split {name}": parts for name, parts in _splits(benchmark, folder).items()}
    if benchmark.configurations:
        details["configurations"] = ["default", *benchmark.configurations]
    details["where"] = entry.place
    details["source"] = _source(benchmark)
    details["licence"] = _licence(folder) or "not recorded; see the source"
    details["citation"] = benchmark.citation
    return details


def _splits(benchmark: Benchmark, folder: Path | None) -> dict[str, str]:
    """The number of classes in each part of each split, where it is known."""
    found: Mapping[str, Mapping[str, Sequence[str]]] = {
        **benchmark.class_splits,
        **(read_class_splits(folder) if folder else {}),
    }
    counts = {
        name: ", ".join(f"{part} {len(names)}" for part, names in parts.items())
        for name, parts in found.items()
    }
    unknown = "sizes are known when the data are there"
    return {name: counts.get(name, unknown) for name in (*benchmark.splits, *counts)}


def _source(benchmark: Benchmark) -> str:
    if benchmark.built_in:
        return "drawn by this package"
    if benchmark.repository:
        return f"https://huggingface.co/datasets/{benchmark.repository}"
    return "to be obtained from its authors"


def _licence(folder: Path | None) -> str:
    """The licence that the README of a data set's folder states, if there is one."""
    path = folder / "README.md" if folder else None
    if path is None or not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        stated = _LICENCE.search(file.read(_LONGEST_README_BYTES))
    return stated[1].strip() if stated else ""


def _in_words(examples: int | tuple[int, int] | None) -> str:
    if examples is None:
        return "varies"
    return f"{examples[0]} to {examples[1]}" if isinstance(examples, tuple) else str(examples)
