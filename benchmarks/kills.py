"""Runs that are killed at random moments and resumed, against one that was left alone.

    python benchmarks/kills.py [--runs 50] [--seed 0] [--table]

Each run has a cache of its own, so that it decodes its data. It is killed (SIGKILL) one to three
times: at any moment of its length, at any moment of decoding, or as soon as a temporary file is
seen after such a moment. Each time it is started again, until it has finished. Writes
benchmarks/results/kills.json and its part of docs/robustness.md.
"""

from __future__ import annotations

import argparse
import json
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
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import RESULTS, ROOT, machine

from quickstudy.runs.run import RunDirectory
from quickstudy.saving.files import write_text_atomically

PATH = RESULTS / "kills.json"
PAGE = ROOT / "docs" / "robustness.md"
BEGIN, END = "<!-- kills:begin -->", "<!-- kills:end -->"

CLASSES, EACH, SIDE = 16, 60, 48
SHARD_BYTES = 2**17
"""So that decoding these few pictures writes shards, as that of large data does."""

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
processes.set_forkserver_preload(["quickstudy.cli.train", "quickstudy.training.loop", "kills"])


@dataclass
class Found:
    """What came of the runs.

    Args:
        runs: that were killed and resumed.
        finished: of them.
        identical: whose φ, best φ and metrics are those of the run that was left alone.
        left: temporary files that remained.
        kills: how many fell at which moment.
        problems: what went wrong, if anything did.
    """

    runs: int = 0
    finished: int = 0
    identical: int = 0
    left: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def draw_pictures(folder: Path) -> None:
    """Noisy pictures in a folder for each class."""
    generator = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number:02}").mkdir(parents=True)
        picture = generator.integers(0, 256, (SIDE, SIDE, 3))
        for example in range(EACH):
            noisy = picture + generator.integers(-60, 60, picture.shape)
            image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            image.save(folder / f"class{number:02}" / f"{example}.png")


def train(words: list[str], cache: Path, log: Path) -> None:
    """``quickstudy train`` in a process of its own, which has imported everything already."""
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
    """Begins the run in ``work``, or goes on with it."""
    run = work / "run"
    begun = RunDirectory(run).can_be_resumed()
    words = ["--resume", str(run)] if begun else [*OPTIONS, "--data", str(pictures)]
    words += [] if begun else ["--out", str(run)]
    process = processes.Process(target=train, args=(words, work / "cache", work / "log"))
    process.start()
    return process


def moment(work: Path) -> str:
    """What a process that was killed was doing, by what it left."""
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
    """What a run takes that is left alone, in seconds: until its data are decoded, and in all."""

    decoding: float
    all: float


def durations(work: Path, pictures: Path) -> Durations:
    """Lets a run be, and measures it."""
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
    """Waits for the moment at which the process is to be killed, or its end."""
    aim = draw.choice(("any moment", "decoding", "writing"))
    process.join(draw.random() * (lasts.decoding if aim == "decoding" else lasts.all))
    while aim == "writing" and process.is_alive() and not list(work.rglob(".*.tmp")):
        process.join(POLLED_SECONDS)


def killed_and_resumed(
    work: Path, pictures: Path, lasts: Durations, draw: random.Random
) -> Counter[str]:
    """Kills a run up to so many times, then lets it finish.

    Args:
        work: a new folder.
        pictures: to train on.
        lasts: what a run takes.
        draw: draws the moments.

    Raises:
        RuntimeError: when it ends otherwise than by being killed or finished.
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


def measure(runs: int, seed: int, folder: Path) -> Found:
    """Kills and resumes so many runs."""
    pictures, whole = folder / "pictures", folder / "whole"
    draw_pictures(pictures)
    durations(whole, pictures)  # also starts the server of processes
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


def part(results: dict[str, Any]) -> str:
    """The part of the documentation's page."""
    kills = results["kills"]
    lines = [
        f"{results['runs']} runs were killed (SIGKILL) {sum(kills.values())} times in all, at "
        "random: at any moment of their length, at any moment of decoding, or as soon as a "
        f"temporary file was seen after such a moment (seed {results['seed']}). Each time they "
        "were started again:",
        "",
        "| killed while | times |",
        "| --- | --- |",
        *(f"| {name} | {number} |" for name, number in sorted(kills.items())),
        "",
        f"{results['finished']} of {results['runs']} finished; in {results['identical']} all "
        "weights, the best weights and the metrics are bit for bit those of a run that was left "
        "alone; "
        f"{results['left']} temporary files remained.",
        "",
        f"Measured on {results['machine']} in {results['seconds'] / 60:.0f} minutes. "
        "`python benchmarks/kills.py` repeats it.",
    ]
    return "\n".join(lines)


def write_page(results: dict[str, Any]) -> None:
    """Puts the part into the page, which others write too."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Robustness\n"
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n## Killed runs\n\n{BEGIN}\n{END}\n"
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    write_text_atomically(PAGE, f"{before}{BEGIN}\n{part(results)}\n{END}{after}")


def main() -> None:
    """Measures and writes; the exit code tells whether all runs ended as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.table:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options.runs, options.seed, Path(folder))
        results = {
            **asdict(found),
            "kills": dict(found.kills),
            "seed": options.seed,
            "seconds": round(time.monotonic() - begun, 1),
            "machine": machine(),
        }
        write_text_atomically(PATH, json.dumps(results, indent=2) + "\n")
    results = json.loads(PATH.read_text(encoding="utf-8"))
    write_page(results)
    sys.exit(1 if results["problems"] else 0)


if __name__ == "__main__":
    main()
