"""Every strategy at equal cost: CIFAR-FS, Conv4-64, the same training time for each.

Trains every file in configs/cifar-fs on one core, evaluates it on the test classes and stores the
reports in benchmarks/results/cifar-fs. A stopped run is resumed, and what is stored is not measured
again. On another machine than the reference row's, training takes longer by the factor by which one
step of the reference does (measured first and stored in benchmarks/results/paces.json).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import percent
from benchmarks.common.machine import machine
from benchmarks.common.measuring import ONE_CORE, in_a_process
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import RESULTS, ROOT, Results, read_json, write_json
from benchmarks.common.training import (
    evaluate_config,
    start_of,
    start_of_result,
    steps_in_words,
    stored_result,
    train_config,
)
from quickstudy.runs import Checkpoint
from quickstudy.runs.run import RunDirectory

CONFIGS = ROOT / "configs" / "cifar-fs"
PROTOCOLS = ((5, 1), (5, 5))
REFERENCE = CONFIGS / "prototypical_network.yaml"
"""The row by which machines are compared."""
PACES = RESULTS / "paces.json"
PACE_STEPS = 1000


def paces() -> dict[str, float]:
    """For each machine, how many times longer a step of the reference takes than in its row."""
    reference = read_json(stored_result(REFERENCE))
    return read_json(PACES) | ({reference["machine"]: 1.0} if reference else {})


def measure_pace() -> None:
    """Measures this machine's pace, unless it is known or there is nothing to compare with."""
    reference = read_json(stored_result(REFERENCE))
    if not reference or machine() in paces():
        return
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "--config", str(REFERENCE), "--out", folder, "--steps", str(PACE_STEPS)]
        command = [sys.executable, "-m", "quickstudy", *words, "--max_minutes", "null"]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | ONE_CORE)
        seconds = Checkpoint.load(RunDirectory(folder).last).progress["seconds"]
    pace = (seconds / PACE_STEPS) / (reference["training_seconds"] / reference["steps"])
    write_json(PACES, read_json(PACES) | {machine(): round(pace, 3)})


def cost(config: Path) -> float:
    """Seconds of a training and of what it started from, scaled to the reference's machine."""
    result = read_json(stored_result(config))
    start = start_of_result(result, config)
    seconds = float(result["training_seconds"]) / paces()[result["machine"]]
    return seconds + (cost(start) if start else 0.0)


def minutes_of(config: Path) -> float:
    """How long a config trains on the reference's machine, apart from what it starts from."""
    return float(yaml.safe_load(config.read_text()).get("max_minutes") or 0)


def measure_one(config: str) -> None:
    """Trains and evaluates one config in this process."""
    pace, minutes = paces().get(machine(), 1.0), minutes_of(Path(config))
    more = () if pace == 1.0 or not minutes else ("--max_minutes", f"{pace * minutes:.2f}")
    evaluate_config(Path(config), train_config(Path(config), ONE_CORE, more), PROTOCOLS)


def in_its_process(config: Path) -> str | None:
    """Trains and evaluates one config in processes of its own; returns what failed."""
    try:
        in_a_process("accuracy/leaderboard", "measure_one", str(config), environment=ONE_CORE)
    except subprocess.CalledProcessError:
        return f"{config.name} failed."
    return None


OPTIONS: dict[str, dict[str, Any]] = {
    "--jobs": {"type": int, "default": os.cpu_count() or 1, "help": "number of trainings at once"},
    "configs": {"nargs": "*", "type": Path, "help": "configurations; by default all"},
}


def measure(options: argparse.Namespace, results: Results) -> str | None:
    """Trains and evaluates what is missing; first what others start from."""
    measure_pace()
    configs = [path.resolve() for path in options.configs] or sorted(CONFIGS.glob("*.yaml"))
    starts = {start for config in configs if (start := start_of(config))}
    failed: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for stage in (starts, [config for config in configs if config not in starts]):
            failed += filter(None, pool.map(in_its_process, sorted(stage)))
    return "\n".join(failed) or None


def row(result: dict[str, Any], config: Path, here: str) -> list[str]:
    """The cells of a result.

    Args:
        result: what was stored.
        config: what was trained.
        here: the machine of the reference; results of others get a star.
    """
    reports = {report["shots"]: report for report in result["reports"]}
    first = reports[1]
    marks = " (transductive)" * first["transductive"] + " *" * (result["machine"] != here)
    return [
        f"[{result['name']}](../configs/cifar-fs/{result['name']}.yaml){marks}",
        *(percent(reports[shots]["accuracy"], 2) for shots in (1, 5)),
        f"{cost(config):.0f} s, {steps_in_words(result, config)}",
        *(f"{1000 * first[part]:.2f} ms" for part in ("adapt_seconds", "predict_seconds")),
    ]


def write(results: Results, pages: Pages) -> None:
    """Writes the table, best at one shot first."""
    starts = {path: start_of(path) for path in CONFIGS.glob("*.yaml")}
    measured = {path: result for path in starts if (result := read_json(stored_result(path)))}
    if REFERENCE not in measured:
        raise SystemExit(f"Measure {REFERENCE.stem} first: costs are relative to it.")
    here = measured[REFERENCE]["machine"]
    shown = {  # half a training is counted where another config continues it
        path: result
        for path, result in measured.items()
        if minutes_of(path) >= minutes_of(REFERENCE) or path not in starts.values()
    }
    ranking = sorted(shown, key=lambda path: -_one_shot(shown[path]))
    machines = {result["machine"] for result in measured.values()}
    missing = sorted(path.stem for path in starts if path not in measured)
    head = ["strategy", "5-way 1-shot", "5-way 5-shot", "training", "adapting", "predicting"]
    pages.splice(
        "docs/leaderboard.md",
        "leaderboard",
        *(
            f"Rows with a star were trained on {each} for {pace:.2f} times as long, because one "
            f"step of the prototypical network takes that much longer there than on {here}. Their "
            "training time is converted to seconds of the latter machine; their other times are "
            "as measured."
            for each, pace in paces().items()
            if each in machines - {here}
        ),
        table(head, (row(shown[path], path, here) for path in ranking)),
        pages.measured_on(machines),
        *([f"Not trained yet: {', '.join(missing)}."] if missing else []),
    )


def _one_shot(result: dict[str, Any]) -> float:
    return float(next(r for r in result["reports"] if r["shots"] == 1)["accuracy"]["mean"])


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/leaderboard.md",),
    "five hours on one core",
    options=OPTIONS,
    stored=False,
)
