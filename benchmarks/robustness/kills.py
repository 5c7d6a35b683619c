"""Runs that are killed at random moments and resumed, beside one that was left alone.

Each run has a cache of its own, so that it decodes its data. It is killed (SIGKILL) one to three
times: at any moment of its duration, at any moment of decoding, or as soon as a temporary file
appears after such a moment. Each time it is started again, until it has finished.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import torch

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import noisy_pictures
from benchmarks.common.machine import machine
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from quickstudy.runs.run import RunDirectory

CLASSES, EACH, SIDE = 16, 60, 48
SHARD_BYTES = 2**17
"""So small that decoding these few pictures writes shards, as decoding large data does."""

MOST_KILLS = 3
LONGEST_SECONDS = 300
POLLED_SECONDS = 0.0005
OPTIONS = [
    "--encoder", "Conv4", "--encoder.channels", "8", "--split", "0.5,0.25,0.25", "--ways", "3",
    "--queries", "2", "--tasks", "2", "--steps", "40", "--schedule", "cosine",
    "--augmentation.degrees", "10", "--validate_every", "10", "--validation_episodes", "10",
    "--validation_queries", "3", "--log_every", "2", "--checkpoint_every", "2", "--accelerator",
    "cpu",
]  # fmt: skip

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["quickstudy.cli.train", "quickstudy.training.loop", __name__])


@dataclass
class Found:
    """How the runs ended.

    Args:
        runs: number of runs that were killed and resumed.
        finished: number of them that finished.
        identical: number whose φ, best φ and metrics equal those of the run that was left alone.
        left: number of temporary files that remained.
        kills: number of kills by what the run was doing.
        problems: what went wrong.
    """

    runs: int = 0
    finished: int = 0
    identical: int = 0
    left: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def train(words: list[str], cache: Path, log: Path) -> None:
    """Runs ``quickstudy train`` in a process that has imported everything already."""
    from quickstudy.cli.main import main
    from quickstudy.datasets.decoded import shards

    os.environ["QUICKSTUDY_CACHE"] = str(cache)
    shards.SHARD_BYTES = SHARD_BYTES
    torch.set_num_threads(1)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(["train", *words])


def start(work: Path, pictures: Path) -> ForkServerProcess:
    """Begins the run in ``work``, or resumes it."""
    run = work / "run"
    begun = RunDirectory(run).can_be_resumed()
    words = ["--resume", str(run)] if begun else [*OPTIONS, "--data", str(pictures)]
    words += [] if begun else ["--out", str(run)]
    process = processes.Process(target=train, args=(words, work / "cache", work / "log"))
    process.start()
    return process


def moment(work: Path) -> str:
    """What a killed process was doing, judged by the files it left."""
    if list((work / "run").rglob(".*.tmp")):
        return "writing a file of the run"
    if list((work / "cache").rglob(".*.tmp")):
        return "writing a file of the cache"
    if not decoded_files(work):
        return "starting or decoding"
    return "training" if (work / "run" / "metrics.csv").exists() else "beginning the run"


def decoded_files(work: Path) -> list[Path]:
    """The complete files of decoded data."""
    return list((work / "cache" / "datasets").glob("*.safetensors"))


@dataclass
class Durations:
    """Seconds that an undisturbed run takes: until its data are decoded, and in all."""

    decoding: float
    all: float


def durations(work: Path, pictures: Path) -> Durations:
    """Measures a run that is left alone."""
    work.mkdir()
    begun, decoded = time.monotonic(), 0.0
    process = start(work, pictures)
    while process.is_alive():
        if not decoded and decoded_files(work):
            decoded = time.monotonic() - begun
        process.join(POLLED_SECONDS)
    if process.exitcode:
        raise RuntimeError((work / "log").read_text())
    return Durations(decoded, time.monotonic() - begun)


def wait(process: ForkServerProcess, work: Path, lasts: Durations, draw: random.Random) -> None:
    """Waits for a random moment at which to kill the process, or for its end."""
    aim = draw.choice(("any moment", "decoding", "writing"))
    process.join(draw.random() * (lasts.decoding if aim == "decoding" else lasts.all))
    while aim == "writing" and process.is_alive() and not list(work.rglob(".*.tmp")):
        process.join(POLLED_SECONDS)


def killed_and_resumed(
    work: Path, pictures: Path, lasts: Durations, draw: random.Random
) -> Counter[str]:
    """Kills a run one to three times, then lets it finish.

    Args:
        work: a new folder.
        pictures: the training data.
        lasts: the durations of an undisturbed run.
        draw: draws the moments.

    Returns:
        The number of kills by what the run was doing.

    Raises:
        RuntimeError: when a process fails or hangs.
    """
    work.mkdir()
    moments: Counter[str] = Counter()
    remaining = draw.randint(1, MOST_KILLS)
    while True:
        process = start(work, pictures)
        if remaining:
            wait(process, work, lasts, draw)
            if process.is_alive():
                process.kill()
                process.join()
                moments[moment(work)] += 1
                remaining -= 1
                continue
        process.join(LONGEST_SECONDS)
        if process.exitcode == 0 and moments:
            return moments
        if process.exitcode == 0:  # over before it could be killed
            shutil.rmtree(work)
            work.mkdir()
            continue
        process.kill()
        said = (work / "log").read_text()[-500:]
        raise RuntimeError(f"{work}: exit code {process.exitcode}: {said}")


def differences(a: Path, b: Path) -> list[str]:
    """Where two finished runs differ."""
    first, second = RunDirectory(a), RunDirectory(b)
    pairs = {
        "last": (first.newest().model, second.newest().model),
        "best": (first.read_best().model, second.read_best().model),
    }
    found = [
        f"{name}: {key}"
        for name, (one, other) in pairs.items()
        for key in one
        if not torch.equal(one[key], other[key])
    ]
    rows = [
        [line.rpartition(",")[0] for line in each.metrics.read_text().splitlines()]
        for each in (first, second)
    ]
    return found + ([] if rows[0] == rows[1] else ["metrics.csv"])


def killed_runs(runs: int, seed: int, folder: Path) -> Found:
    """Kills and resumes ``runs`` runs."""
    pictures, whole = folder / "pictures", folder / "whole"
    noisy_pictures(pictures, CLASSES, EACH, (SIDE, SIDE, 3), np.random.default_rng(0))
    durations(whole, pictures)  # the first also starts the server of processes
    lasts = durations(folder / "again", pictures)
    if problem := differences(whole / "run", folder / "again" / "run"):
        raise RuntimeError(f"Two runs that were left alone differ: {problem}.")
    found = Found()
    for number in range(runs):
        work = folder / f"run{number}"
        found.runs += 1
        try:
            draw = random.Random(f"{seed} {number}")
            found.kills += killed_and_resumed(work, pictures, lasts, draw)
            found.finished += 1
            other = differences(whole / "run", work / "run")
            found.identical += not other
            found.problems += [f"run {number}: {each}" for each in other]
        except (RuntimeError, ValueError, OSError) as error:
            found.problems.append(f"run {number}: {error}")
        left = list(work.rglob(".*"))
        found.left += len(left)
        found.problems += [f"run {number} left {path.relative_to(work)}" for path in left]
        print(
            f"{number + 1} of {runs}: {dict(found.kills)}, {found.identical} identical",
            file=sys.stderr,
        )
    return found


def measure(options: argparse.Namespace, results: Results) -> str | None:
    """Measures everything anew; returns what went wrong."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = killed_runs(options.runs, options.seed, Path(folder))
    results |= {
        **asdict(found),
        "kills": dict(found.kills),
        "seed": options.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "machine": machine(),
    }
    results.save()
    return "\n".join(found.problems) or None


def write(results: Results, pages: Pages) -> None:
    """Puts the section into the page."""
    kills = {name: str(number) for name, number in sorted(results["kills"].items())}
    pages.splice(
        "docs/robustness.md",
        "kills",
        f"{results['runs']} runs were killed {sum(results['kills'].values())} times in all (seed "
        f"{results['seed']}):",
        table(["killed while", "times"], kills.items()),
        f"{results['finished']} of {results['runs']} finished. In {results['identical']} of them "
        "all weights, the best weights and the metrics equal those of a run that was left alone, "
        f"bit for bit; {results['left']} temporary files remained. Measuring took "
        f"{results['seconds'] / 60:.0f} minutes.",
        pages.measured_on(results["machine"]),
    )


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/robustness.md",),
    "two minutes",
    options={
        "--runs": {"type": int, "default": 50, "help": "number of runs (default: 50)"},
        "--seed": {"type": int, "default": 0, "help": "random seed of the moments"},
    },
)
