"""Damages files of all kinds at random and reads them, for a given time.

Each loader runs in processes of its own with bounded memory, so that a crash of a library is a
finding and does not end the benchmark.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.machine import machine
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results

sys.path.append(str(ROOT / "tests"))

MOST_BYTES = 2 * 2**30
"""Memory that reading may take beyond that of the imported libraries."""


def worker(name: str, seed: int, first: int, seconds: float, folder: str, results: Any) -> None:
    """Tries case after case until the time is over, and reports each outcome."""
    from fuzz.loaders import LOADERS, Found

    loader = next(each for each in LOADERS if each.name == name)
    os.environ["QUICKSTUDY_CACHE"] = f"{folder}/cache"
    os.chdir(folder)
    seeds = Path(folder) / "seeds"
    seeds.mkdir(exist_ok=True)
    loader.seeds(seeds)
    contents = [path.read_bytes() for path in sorted(seeds.iterdir())]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    os.dup2(sys.stdout.fileno(), 2)
    most = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MOST_BYTES
    )
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    number, until = first, time.time() + seconds  # not counting imports
    while time.time() < until:
        generator = random.Random(f"{seed} {name} {number}")
        content = loader.damage(generator, generator.choice(contents))
        with tempfile.TemporaryDirectory(dir=folder) as own:
            path = Path(own) / f"file{loader.ending}"
            path.write_bytes(content)
            results.put(("begun", number, None))
            try:
                outcome, words = loader.try_one(path), None
            except Found as found:
                outcome, words = "found", str(found)
        results.put((outcome, number, words))
        number += 1
    results.put(("ended", number, None))


def fuzz(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """Runs a loader for some seconds; a process that dies is replaced."""
    context = multiprocessing.get_context("spawn")
    counts = {"read": 0, "refused": 0}
    found: list[dict[str, Any]] = []
    left, first = seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        while left > 0:
            results = context.SimpleQueue()
            process = context.Process(
                target=worker, args=(name, seed, first, left, folder, results)
            )
            process.start()
            current = started = None
            while process.is_alive() or not results.empty():
                if results.empty():
                    time.sleep(0.01)
                    continue
                outcome, number, words = results.get()
                if outcome == "begun":
                    current, started = number, started or time.time()
                    continue
                current, first = None, number + 1
                if outcome == "found":
                    found.append({"case": number, "what": words})
                elif outcome in counts:
                    counts[outcome] += 1
            process.join()
            if current is not None:
                found.append({"case": current, "what": f"the process ended ({process.exitcode})"})
                first = current + 1
            elif process.exitcode or started is None:
                raise RuntimeError(f"The fuzzing of {name} itself failed.")
            left -= time.time() - (started or 0)
    return {"cases": sum(counts.values()) + len(found), **counts, "found": found}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Fuzzes every loader anew."""
    from fuzz.loaders import LOADERS, MOST_SECONDS

    results |= {
        "minutes": options.minutes,
        "seed": options.seed,
        "machine": machine(),
        "seconds_a_file": MOST_SECONDS,
        "memory_mib": MOST_BYTES >> 20,
        "loaders": {},
    }
    for name in options.only or [each.name for each in LOADERS]:
        found = fuzz(name, options.seed, 60 * options.minutes / len(options.only or LOADERS))
        for each in found["found"]:
            print("   ", each["case"], each["what"][:300], flush=True)
        results.keep("loaders", name, found)


def write(results: Results, pages: Pages) -> None:
    """Puts the section into the page."""
    counted = {
        name: [each["cases"], each["read"], each["refused"], len(each["found"])]
        for name, each in results["loaders"].items()
    }
    pages.splice(
        "docs/robustness.md",
        "fuzzing",
        f"Every file must be read, or refused with a sentence of the package, within "
        f"{results['seconds_a_file']} seconds and {results['memory_mib']} MiB. "
        f"{sum(cases for cases, *_ in counted.values())} files were tried in "
        f"{results['minutes']:g} minutes (seed {results['seed']}):",
        table(
            ["files", "tried", "read", "refused", "anything else"],
            ([name, *map(str, numbers)] for name, numbers in counted.items()),
        ),
        pages.measured_on(results["machine"]),
    )


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/robustness.md",),
    "five minutes",
    options={
        "--minutes": {"type": float, "default": 5.0, "help": "minutes in all (default: 5)"},
        "--only": {"nargs": "+", "help": "loaders to try; by default all"},
        "--seed": {"type": int, "default": 0, "help": "random seed of the damage"},
    },
)
