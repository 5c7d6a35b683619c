"""Every strategy at equal cost: CIFAR-FS, Conv4-64, the same training time for each.

Trains every file in configs/cifar-fs on one core each, evaluates it on the test classes, and writes
docs/leaderboard.md from benchmarks/results/cifar-fs/*.json. It can be stopped and started again:
what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/leaderboard.py [--jobs 2] [--table] [CONFIG ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from results import (
    EPISODES,
    ONE_CORE,
    RESULTS,
    ROOT,
    machine,
    measure,
    percent,
    start_of,
    train,
    training_seconds,
)

CONFIGS = ROOT / "configs" / "cifar-fs"
RESULTS_HERE = RESULTS / "cifar-fs"
PAGE = ROOT / "docs" / "leaderboard.md"
PROTOCOLS = ((5, 1), (5, 5))

INTRODUCTION = """# Leaderboard

Every strategy at equal cost: CIFAR-FS, Conv4-64, {minutes:.0f} minutes of training on one core, one
training for both columns, {episodes} test episodes with {queries} queries a class.
`make leaderboard` trains, evaluates and writes this page; `configs/cifar-fs` holds a file for each
row. What a strategy reaches when it may train for longer is in [results](results.md): six minutes
favour what learns quickly.

Accuracy in % with its 95 % confidence interval; *adapting* to a task of 5 examples and *predicting*
its 75 queries, at 1 shot, on one core.
"""


def check_machine(any_machine: bool) -> None:
    """Stops where equal times would not be equal costs."""
    stored = {json.loads(path.read_text())["machine"] for path in RESULTS_HERE.glob("*.json")}
    if stored - {machine()} and not any_machine:
        raise SystemExit(
            f"The rows that are there were measured on {'; '.join(sorted(stored))}, and this is "
            f"{machine()}: minutes there and here are not the same cost. Go on there, or say "
            "--any_machine; the page names every machine."
        )


def do(config: Path) -> str:
    """Trains and evaluates one config in processes of its own; returns what went wrong, if so."""
    words = [sys.executable, __file__, "--one", str(config)]
    done = subprocess.run(words, env=os.environ | ONE_CORE, check=False)
    return "" if done.returncode == 0 else f"{config.name} failed."


def do_here(config: Path) -> None:
    """Trains and evaluates one config in this process."""
    measure(config, train(config, ONE_CORE), PROTOCOLS)


def row(result: dict[str, Any], seconds: float) -> list[str]:
    """The cells of a result whose training took so many seconds in all."""
    reports = {report["shots"]: report for report in result["reports"]}
    first = reports[1]
    name = f"[{result['name']}](../configs/cifar-fs/{result['name']}.yaml)"
    cells = [name + (" (transductive)" if first["transductive"] else "")]
    cells += [percent(reports[shots]["accuracy"], 2) for shots in (1, 5)]
    cells.append(f"{seconds:.0f} s, {result['steps']} steps")
    cells += [f"{1000 * first[part]:.2f} ms" for part in ("adapt_seconds", "predict_seconds")]
    return cells


def write_page() -> None:
    """Writes the table, best at one shot first."""
    results = {path.stem: json.loads(path.read_text()) for path in RESULTS_HERE.glob("*.json")}
    starts = {path.stem: start_of(path) for path in CONFIGS.glob("*.yaml")}
    rows = {}
    for name, result in results.items():
        if CONFIGS / f"{name}.yaml" in starts.values():
            continue  # half a training, counted where it is gone on with
        rows[name] = row(result, training_seconds(CONFIGS / f"{name}.yaml"))
    if not rows:
        raise SystemExit("There are no results yet.")
    ranking = sorted(rows, key=lambda name: -_one_shot(results[name]))
    some = results[ranking[0]]["reports"][0]
    minutes = max(result["training_seconds"] for result in results.values()) / 60
    lines = [
        INTRODUCTION.format(minutes=minutes, episodes=EPISODES, queries=some["queries"]),
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
    parser.add_argument(
        "--any_machine", action="store_true", help="train on another machine than the rest"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("configs", nargs="*", type=Path, help="by default all")
    options = parser.parse_args()
    if options.one:
        do_here(options.one.resolve())
        return
    failures: list[str] = []
    if not options.table:
        check_machine(options.any_machine)
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
