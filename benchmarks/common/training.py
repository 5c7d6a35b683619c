"""Trainings that a benchmark starts, resumes and evaluates."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import quickstudy as qs
from benchmarks.common.machine import machine
from benchmarks.common.results import RESULTS, ROOT, read_json, write_json
from quickstudy.cli.options import parse_split
from quickstudy.datasets import ClassDataset
from quickstudy.runs import Checkpoint, Run, load
from quickstudy.runs.run import RunDirectory

EPISODES = 1000


def fitted(strategy: qs.Strategy, source: Any, out: Path | None = None, **settings: Any) -> Run:
    """Trains a strategy, or resumes the run in ``out``.

    Raises:
        SystemExit: if training was interrupted.
    """
    resume = out is not None and (out / "config.yaml").exists()
    run = qs.fit(strategy, source, out=out, resume=resume, **settings)
    if not run.progress["finished"]:
        raise SystemExit("Training was interrupted; the same command resumes it.")
    return run


def digest(content: bytes) -> str:
    """Tells one version of a file or of settings from another."""
    return hashlib.sha256(content).hexdigest()[:16]


def stored_result(config: Path) -> Path:
    """The file of what was measured of a config."""
    return RESULTS / config.parent.name / f"{config.stem}.json"


def start_of(config: Path) -> Path | None:
    """The config of the run that this config's training starts from, if any."""
    start = yaml.safe_load(config.read_text()).get("start_from")
    return None if start is None else ROOT / "configs" / f"{start.removeprefix('runs/')}.yaml"


def start_of_result(result: Mapping[str, Any], config: Path) -> Path | None:
    """The config that a stored result started from, which its own config may have changed since."""
    if "started_from" in result:
        return config.with_name(f"{result['started_from']}.yaml")
    return start_of(config)


def steps_in_words(result: Mapping[str, Any], config: Path) -> str:
    """How many steps a result took, and after which other training."""
    start = start_of_result(result, config)
    return f"{result['steps']} steps" + (f" after {start.stem}" if start else "")


def train_config(
    config: Path, environment: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> Path:
    """Trains what a config and ``more`` options describe, or resumes its run; returns the run.

    Raises:
        SystemExit: if the config has changed since the run began.
    """
    run = ROOT / "runs" / config.parent.name / config.stem
    started_with = run / "published.yaml"
    if started_with.exists():
        if started_with.read_bytes() != config.read_bytes():
            raise SystemExit(f"{config} has changed since {run} began. Remove or move that run.")
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


def splits_of(run: Run) -> dict[str, ClassDataset]:
    """The data set of a run, divided as it was for training."""
    options = run.config
    data = qs.load_dataset(options["data"], rotations=options["rotations"], inputs=run.inputs)
    return data.split(parse_split(options["split"]), seed=options["split_seed"])


def evaluate_config(config: Path, run: Path, protocols: Sequence[tuple[int, int]]) -> None:
    """Evaluates a finished run on its test classes and stores the reports, unless they are there.

    Args:
        config: the configuration that was trained.
        run: the directory of the run.
        protocols: ways and shots of each evaluation; a strategy skips those it cannot do.
    """
    path = stored_result(config)
    trained, last = load(run), Checkpoint.load(RunDirectory(run).last)
    start = start_of(config)
    about = {
        "name": config.stem,
        "config_digest": digest(config.read_bytes()),
        "seed": last.settings["seed"],
        "steps": last.progress["step"],
        "training_seconds": round(last.progress["seconds"], 1),
        **({"started_from": start.stem} if start else {}),
    }
    if about.items() <= read_json(path).items():
        return
    test = splits_of(trained)["test"]
    reports = [
        qs.evaluate(trained, test, ways=ways, shots=shots, episodes=EPISODES).to_dict()
        for ways, shots in protocols
        if trained.strategy.ways in (None, ways)
    ]
    write_json(path, {**about, "machine": machine(), "reports": reports})
