"""Published results: trains what configs/ describes, evaluates it, and writes docs/results.md.

    python benchmarks/results.py            train and evaluate what configs/ says, write the table
    python benchmarks/results.py --table    write the table from the stored JSON only

Runs go to runs/<data>/<config>; a run that was stopped goes on. What the table is written from
lies in benchmarks/results/<data>/<config>.json. Data is taken from $QUICKSTUDY_DATA.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from quickstudy.cli.options import parse_split
from quickstudy.datasets import load_dataset
from quickstudy.evaluation import evaluate
from quickstudy.runs import Checkpoint, load
from quickstudy.runs.run import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PUBLISHED = ROOT / "benchmarks" / "published.yaml"
EPISODES = 1000
PROTOCOLS = ((5, 1), (5, 5), (20, 1))  # ways, shots
ONE_CORE = {"OMP_NUM_THREADS": "1"}
FULL_COST = ("omniglot", "cifar-fs-long")
"""Folders of configs whose runs take what they need; those of equal cost are the leaderboard's."""
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def machine() -> str:
    """This machine in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()} cores of {model}, {gpu}, torch {torch.__version__.partition('+')[0]}"


def start_of(config: Path) -> Path | None:
    """The config whose run this one starts from, if any."""
    start = yaml.safe_load(config.read_text()).get("start_from")
    return None if start is None else ROOT / "configs" / f"{start.removeprefix('runs/')}.yaml"


def training_seconds(config: Path) -> float:
    """The time of a stored result's training, and of those that it started from."""
    result = RESULTS / config.parent.name / f"{config.stem}.json"
    start = start_of(config)
    seconds = float(json.loads(result.read_text())["training_seconds"])
    return seconds + (training_seconds(start) if start else 0.0)


def train(
    config: Path, environment: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> Path:
    """Trains what ``config`` and ``more`` options describe, or goes on where it stopped.

    Returns:
        The run.
    """
    run = ROOT / "runs" / config.parent.name / config.stem
    started_with = run / "published.yaml"
    if started_with.exists():
        if started_with.read_bytes() != config.read_bytes():
            raise SystemExit(
                f"{config} has changed since {run} was begun. Remove or move that run."
            )
        last = RunDirectory(run).last
        if last.exists() and Checkpoint.load(last).progress["finished"]:
            return run
        options = ["--resume", str(run)]
    else:
        run.mkdir(parents=True)
        started_with.write_bytes(config.read_bytes())
        options = ["--config", str(config), "--out", str(run), *more]
    command = [sys.executable, "-m", "quickstudy", "train", *options]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | dict(environment or {}))
    return run


def config_digest(config: Path) -> str:
    """What tells one version of a config from another."""
    return hashlib.sha256(config.read_bytes()).hexdigest()[:16]


def steps_in_words(result: Mapping[str, Any], config: Path) -> str:
    """How many steps a result took, and after what."""
    start = start_of(config)
    return f"{result['steps']} steps" + (f" after {start.stem}" if start else "")


def percent(accuracy: Mapping[str, float], digits: int) -> str:
    """A mean and its 95 % interval in per cent."""
    return f"{100 * accuracy['mean']:.{digits}f} ± {100 * accuracy['ci95']:.{digits}f}"


def measure(config: Path, run: Path, protocols: Sequence[tuple[int, int]] = PROTOCOLS) -> None:
    """Evaluates a finished run on the test classes and stores what was found."""
    path = RESULTS / config.parent.name / f"{config.stem}.json"
    trained, last = load(run), Checkpoint.load(RunDirectory(run).last)
    about = {
        "name": config.stem,
        "config_digest": config_digest(config),
        "seed": last.settings["seed"],
        "steps": last.progress["step"],
        "training_seconds": round(last.progress["seconds"], 1),
    }
    if path.exists() and about.items() <= json.loads(path.read_text()).items():
        return
    options = trained.config
    data = load_dataset(options["data"], rotations=options["rotations"], inputs=trained.inputs)
    parts = data.split(parse_split(options["split"]), seed=options["split_seed"])
    reports = [
        evaluate(trained, parts["test"], ways=ways, shots=shots, episodes=EPISODES).to_dict()
        for ways, shots in protocols
        if trained.strategy.ways in (None, ways)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {**about, "machine": machine(), "reports": reports}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def table(name: str) -> str:
    """The Markdown table of all results on one data set, beside what papers report."""
    results = [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*.json"))]
    published = yaml.safe_load(PUBLISHED.read_text()).get(name, {})
    columns = [f"{ways}-way {shots}-shot" for ways, shots in PROTOCOLS]
    lines = [
        f"| {name} | {' | '.join(columns)} | predictions | training |",
        f"| --- | {' | '.join('---' for _ in columns)} | --- | --- |",
    ]
    notes: dict[str, list[str]] = {}
    for result in results:
        cells, beside = {}, published.get(result["name"], {})
        for report in result["reports"]:
            mean, interval = (100 * report["accuracy"][part] for part in ("mean", "ci95"))
            key = f"{report['ways']}-way {report['shots']}-shot"
            cells[key] = f"{mean:.2f} ± {interval:.2f}"
            if key in beside:
                cells[key] += f" (paper {beside[key]:g}, {mean - beside[key]:+.1f})"
                if mean + interval < beside[key] and "note" in beside:
                    said = f"{beside['note']} (Paper: {beside['source']}.)"
                    notes.setdefault(said, []).append(result["name"])
        how = "transductive" if result["reports"][0]["transductive"] else "inductive"
        config = f"[{result['name']}](CONFIGS/{name}/{result['name']}.yaml)"
        row = [config, *(cells.get(column, "—") for column in columns), how]
        path = ROOT / "configs" / name / f"{result['name']}.yaml"
        row.append(f"{training_seconds(path) / 60:.0f} min, {steps_in_words(result, path)}")
        lines.append(f"| {' | '.join(row)} |")
    first = results[0]["reports"][0]
    machines = sorted({result["machine"] for result in results})
    lines += [
        "",
        f"Accuracy in % with its 95 % confidence interval over {first['episodes']} test episodes "
        f"(seed {first['seed']}), {first['queries']} queries a class, classes never trained on; "
        "in brackets what the paper reports and the difference. "
        f"Measured on {'; '.join(machines)}. Written by `make results`.",
    ]
    for said, rows in notes.items():
        lines += ["", f"*{', '.join(dict.fromkeys(rows))}*: {said}"]
    return "\n".join(lines)


def write_tables() -> None:
    """Puts the tables into docs/results.md and the README."""
    names = [name for name in FULL_COST if any((RESULTS / name).glob("*.json"))]
    tables = "\n\n".join(table(name) for name in names)
    page = f"# Results\n\n{tables.replace('CONFIGS', '../configs')}\n"
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "results.md").write_text(page, encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    block = f"{BEGIN}\n{tables.replace('CONFIGS', 'configs')}\n{END}"
    readme.write_text(before + block + after, encoding="utf-8")


def main() -> None:
    """Trains, evaluates and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("configs", nargs="*", type=Path, help="by default all")
    options = parser.parse_args()
    if not options.table:
        folders = [ROOT / "configs" / name for name in FULL_COST]
        every = [config for folder in folders for config in sorted(folder.glob("*.yaml"))]
        for config in options.configs or every:
            for each in filter(None, (start_of(config), config)):
                measure(each, train(each))
    write_tables()


if __name__ == "__main__":
    main()
