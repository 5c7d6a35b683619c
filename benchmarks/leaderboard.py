"""Every strategy at equal cost: CIFAR-FS, Conv4-64, the same training time for each.

Trains every file in configs/cifar-fs on one core each, evaluates it on the test classes, and writes
docs/leaderboard.md from benchmarks/results/cifar-fs/*.json. It can be stopped and started again:
what is there is not done twice.

On another machine than that of the reference row, a training takes as many times longer as a step
of the reference does there (benchmarks/results/paces.json, measured first).

    QUICKSTUDY_DATA=folder python benchmarks/leaderboard.py [--jobs 2] [--table] [CONFIG ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from results import (
    EPISODES,
    ONE_CORE,
    RESULTS,
    ROOT,
    machine,
    measure,
    percent,
    start_of,
    steps_in_words,
    train,
)

from quickstudy.runs import Checkpoint
from quickstudy.runs.run import RunDirectory

CONFIGS = ROOT / "configs" / "cifar-fs"
RESULTS_HERE = RESULTS / "cifar-fs"
PAGE = ROOT / "docs" / "leaderboard.md"
PROTOCOLS = ((5, 1), (5, 5))
REFERENCE = CONFIGS / "prototypical_network.yaml"
"""By whose row machines are compared."""
PACES = RESULTS / "paces.json"
PACE_STEPS = 1000

INTRODUCTION = """# Leaderboard

Every strategy at equal cost: CIFAR-FS, Conv4-64, {minutes:.0f} minutes of training on one core, one
training for both columns, {episodes} test episodes with {queries} queries a class.
`make leaderboard` trains, evaluates and writes this page; `configs/cifar-fs` holds a file for each
row. What a strategy reaches when it may train for longer is in [results](results.md): six minutes
favour what learns quickly.{elsewhere}

The seconds of a row are those of what it goes on from (*after*) too. Accuracy in % with its 95 %
confidence interval; *adapting* to a task of 5 examples and *predicting* its 75 queries, at 1 shot,
on one core.
"""


def result_of(config: Path) -> dict[str, Any] | None:
    """What is stored of a config, if it was measured already."""
    path = RESULTS_HERE / f"{config.stem}.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def paces() -> dict[str, float]:
    """For each machine, how many times longer a step of the reference takes than in its row."""
    known = json.loads(PACES.read_text()) if PACES.exists() else {}
    reference = result_of(REFERENCE)
    return known | ({reference["machine"]: 1.0} if reference else {})


def measure_pace() -> None:
    """Measures this machine's pace, unless it is known or there is nothing to compare with."""
    reference = result_of(REFERENCE)
    if reference is None or machine() in paces():
        return
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "--config", str(REFERENCE), "--out", folder, "--steps", str(PACE_STEPS)]
        command = [sys.executable, "-m", "quickstudy", *words, "--max_minutes", "null"]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | ONE_CORE)
        seconds = Checkpoint.load(RunDirectory(folder).last).progress["seconds"]
    pace = (seconds / PACE_STEPS) / (reference["training_seconds"] / reference["steps"])
    known = json.loads(PACES.read_text()) if PACES.exists() else {}
    known[machine()] = round(pace, 3)
    PACES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def cost(config: Path) -> float:
    """Seconds that a result's training took, on the reference's machine or as if on it.

    What it started from is part of it.
    """
    result, start = result_of(config), start_of(config)
    assert result is not None
    seconds = float(result["training_seconds"]) / paces()[result["machine"]]
    return seconds + (cost(start) if start else 0.0)


def minutes_of(config: Path) -> float:
    """How long a config trains on the reference's machine, what it starts from apart."""
    return float(yaml.safe_load(config.read_text()).get("max_minutes") or 0)


def do(config: Path) -> str:
    """Trains and evaluates one config in processes of its own; returns what went wrong, if so."""
    words = [sys.executable, __file__, "--one", str(config)]
    done = subprocess.run(words, env=os.environ | ONE_CORE, check=False)
    return "" if done.returncode == 0 else f"{config.name} failed."


def do_here(config: Path) -> None:
    """Trains and evaluates one config in this process."""
    pace, minutes = paces().get(machine(), 1.0), minutes_of(config)
    more = () if pace == 1.0 or not minutes else ("--max_minutes", f"{pace * minutes:.2f}")
    measure(config, train(config, ONE_CORE, more), PROTOCOLS)


def row(result: dict[str, Any], seconds: float, elsewhere: bool) -> list[str]:
    """The cells of a result.

    Args:
        result: what was stored.
        seconds: its training's, in all.
        elsewhere: whether it was measured on another machine than the reference.
    """
    reports = {report["shots"]: report for report in result["reports"]}
    first = reports[1]
    name = f"[{result['name']}](../configs/cifar-fs/{result['name']}.yaml)"
    marks = " (transductive)" * first["transductive"]
    cells = [name + marks + " *" * elsewhere]
    cells += [percent(reports[shots]["accuracy"], 2) for shots in (1, 5)]
    steps = steps_in_words(result, CONFIGS / f"{result['name']}.yaml")
    cells.append(f"{seconds:.0f} s, {steps}")
    cells += [f"{1000 * first[part]:.2f} ms" for part in ("adapt_seconds", "predict_seconds")]
    return cells


def write_page() -> None:
    """Writes the table, best at one shot first."""
    results = {path.stem: json.loads(path.read_text()) for path in RESULTS_HERE.glob("*.json")}
    starts = {path.stem: start_of(path) for path in CONFIGS.glob("*.yaml")}
    reference = results.get(REFERENCE.stem)
    if reference is None:
        raise SystemExit(f"There is no result of {REFERENCE.stem} yet, by which costs are counted.")
    here, rows = reference["machine"], {}
    for name, result in results.items():
        config = CONFIGS / f"{name}.yaml"
        if minutes_of(config) < minutes_of(REFERENCE) and config in starts.values():
            continue  # half a training, counted where it is gone on with
        rows[name] = row(result, cost(config), result["machine"] != here)
    ranking = sorted(rows, key=lambda name: -_one_shot(results[name]))
    some = results[ranking[0]]["reports"][0]
    minutes = cost(REFERENCE) / 60
    elsewhere = [
        f"\n\nRows with a star were trained on {each}, {pace:.2f} times as long, since a step of "
        f"the prototypical network takes so many times longer there than on {here}. Their training "
        "is given in seconds of the latter, their other times as they were."
        for each, pace in paces().items()
        if each in {result["machine"] for result in results.values()} - {here}
    ]
    lines = [
        INTRODUCTION.format(
            minutes=minutes,
            episodes=EPISODES,
            queries=some["queries"],
            elsewhere="".join(elsewhere),
        ),
        "| strategy | 5-way 1-shot | 5-way 5-shot | training | adapting | predicting |",
        "| --- | --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(rows[name])} |" for name in ranking),
        "",
        f"Measured on {'; '.join(sorted({r['machine'] for r in results.values()}))}.",
    ]
    missing = sorted(name for name in starts if name not in results)
    if missing:
        lines += ["", f"Not trained yet: {', '.join(missing)}."]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _one_shot(result: dict[str, Any]) -> float:
    return float(next(r for r in result["reports"] if r["shots"] == 1)["accuracy"]["mean"])


def main() -> None:
    """Trains, evaluates and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at once")
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("configs", nargs="*", type=Path, help="by default all")
    options = parser.parse_args()
    if options.one:
        do_here(options.one.resolve())
        return
    failures: list[str] = []
    if not options.table:
        measure_pace()
        configs = [path.resolve() for path in options.configs] or sorted(CONFIGS.glob("*.yaml"))
        starts = {start for config in configs if (start := start_of(config))}
        with ThreadPoolExecutor(options.jobs) as pool:
            for stage in (starts, [config for config in configs if config not in starts]):
                failures += [said for said in pool.map(do, sorted(stage)) if said]
    write_page()
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
