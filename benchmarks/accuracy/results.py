"""Published results: what configs/omniglot and configs/cifar-fs-long describe, beside their papers.

Trains each configuration, evaluates it on classes never trained on and stores the reports in
benchmarks/results/<data>/<config>.json. Runs are kept in runs/<data>/<config>; one that was stopped
is resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import percent
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import RESULTS, ROOT, Results, read_json
from benchmarks.common.training import (
    evaluate_config,
    start_of,
    start_of_result,
    steps_in_words,
    stored_result,
    train_config,
)

PUBLISHED = ROOT / "benchmarks" / "published.yaml"
PROTOCOLS = ((5, 1), (5, 5), (20, 1))  # ways, shots
FOLDERS = ("omniglot", "cifar-fs-long")
"""Folders of configs that train as long as they need; the leaderboard has those of equal cost."""


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains and evaluates what is missing."""
    every = [path for name in FOLDERS for path in sorted((ROOT / "configs" / name).glob("*.yaml"))]
    for config in [path.resolve() for path in options.configs] or every:
        for each in filter(None, (start_of(config), config)):
            evaluate_config(each, train_config(each), PROTOCOLS)


def training_seconds(config: Path) -> float:
    """The time of a result's training and of those that it started from."""
    result = read_json(stored_result(config))
    start = start_of_result(result, config)
    return float(result["training_seconds"]) + (training_seconds(start) if start else 0.0)


def section(name: str, configs: str) -> list[str]:
    """The table of all results on one data set, beside what papers report, and notes.

    Args:
        name: the folder of configs.
        configs: the path from the page to all configs.
    """
    results = [read_json(path) for path in sorted((RESULTS / name).glob("*.json"))]
    published = yaml.safe_load(PUBLISHED.read_text()).get(name, {})
    columns = [f"{ways}-way {shots}-shot" for ways, shots in PROTOCOLS]
    rows: list[list[str]] = []
    notes: dict[str, list[str]] = {}
    for result in results:
        cells, paper = {}, published.get(result["name"], {})
        for report in result["reports"]:
            mean, interval = (100 * report["accuracy"][part] for part in ("mean", "ci95"))
            key = f"{report['ways']}-way {report['shots']}-shot"
            cells[key] = percent(report["accuracy"], 2)
            if key in paper:
                cells[key] += f" (paper {paper[key]:g}, {mean - paper[key]:+.1f})"
                if mean + interval < paper[key] and "note" in paper:
                    note = f"{paper['note']} (Paper: {paper['source']}.)"
                    notes.setdefault(note, []).append(result["name"])
        path = ROOT / "configs" / name / f"{result['name']}.yaml"
        rows.append(
            [
                f"[{result['name']}]({configs}/{name}/{result['name']}.yaml)",
                *(cells.get(column, "—") for column in columns),
                "transductive" if result["reports"][0]["transductive"] else "inductive",
                f"{training_seconds(path) / 60:.0f} min, {steps_in_words(result, path)}",
            ]
        )
    first = results[0]["reports"][0]
    return [
        table([name, *columns, "predictions", "training"], rows),
        f"Accuracy in % with its 95 % confidence interval over {first['episodes']} test episodes "
        f"(seed {first['seed']}) with {first['queries']} queries per class, on classes never "
        "trained on; in brackets the figure of the paper and the difference. Measured on "
        f"{'; '.join(sorted({result['machine'] for result in results}))}. Written by "
        "`make results`.",
        *(f"*{', '.join(dict.fromkeys(names))}*: {note}" for note, names in notes.items()),
    ]


def write(results: Results, pages: Pages) -> None:
    """Writes the page, and the same tables into the README."""
    names = [name for name in FOLDERS if any((RESULTS / name).glob("*.json"))]
    for page, configs in (("docs/results.md", "../configs"), ("README.md", "configs")):
        blocks = [block for name in names for block in section(name, configs)]
        pages.splice(page, "results", *blocks)


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/results.md", "README.md"),
    "twelve hours on two cores",
    options={"configs": {"nargs": "*", "type": Path, "help": "configurations; by default all"}},
    stored=False,
)
