"""How long quickstudy takes beside plain PyTorch, higher, TorchOpt and easyfsl, on one machine.

Contestants run in turns, each in a process of its own: quickstudy and plain PyTorch in this
environment, other packages in .venv-peers (``make bench`` makes it). Every part is measured anew;
with --only the other parts keep what was measured before.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.machine import machine
from benchmarks.common.measuring import ratios, timed
from benchmarks.common.results import Results
from benchmarks.speed.peers import problems
from benchmarks.speed.peers.arena import (
    OURS,
    PEERS,
    Contestant,
    ContestantError,
    Worker,
    race,
    save,
)
from benchmarks.speed.peers.growth import SWEEPS, grow
from benchmarks.speed.peers.page import PAGE, PLOT, SECTIONS, write_page

PACKAGES = ("torch", "higher", "torchopt", "easyfsl")

# The environment variables of glibc for what quickstudy.compute.allocator sets.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@dataclass(frozen=True)
class Measuring:
    """How to measure: rounds, threads, and whether to be quick."""

    rounds: int
    threads: int
    quick: bool


PLAIN = "plain PyTorch"
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    ", bfloat16": {"precision": "bfloat16"},
    ", a task at a time": {"at_once": 1},
    ", compiled": {"compiled": True},
    ", compiled, bfloat16": {"compiled": True, "precision": "bfloat16"},
}
"""The ways to run quickstudy, by what follows its name."""


def variants(call: str, settings: dict[str, Any], names: Iterable[str]) -> list[Contestant]:
    """Ways to run quickstudy, checked against plain PyTorch; bfloat16 without a tolerance."""
    return [
        Contestant(
            f"quickstudy{name}",
            call,
            settings=settings | VARIANTS[name],
            check=PLAIN,
            tolerance=None if "bfloat16" in name else 1e-4,
        )
        for name in names
    ]


def maml(how: Measuring) -> Any:
    """Second-order MAML meta-gradients."""
    races = []
    tasks = 8 if how.quick else 32
    # Five steps of 0.4 amplify rounding until float32 losses, plain PyTorch's too, are off by more
    # than the tolerance; smaller steps cost the same time and keep the check meaningful.
    for pooling, inner_steps, rate in (("max", 1, 0.4), ("stride", 1, 0.4), ("max", 5, 0.1)):
        settings = {"pooling": pooling, "inner_steps": inner_steps, "rate": rate}
        plain = Contestant(PLAIN, "plain:maml", OURS, settings)
        name = f"{PLAIN}, freed memory kept"
        kept = replace(plain, name=name, check=PLAIN, environment=KEEP_MEMORY)
        contestants = [
            *variants("ours:maml", settings, VARIANTS),
            plain,
            kept,
            Contestant("higher", "differentiable:maml_higher", PEERS, settings, PLAIN),
            Contestant("TorchOpt", "differentiable:maml_torchopt", PEERS, settings, PLAIN),
        ]
        halving = {"max": "max-pooling", "stride": "strides"}[pooling]
        steps = f"{inner_steps} inner step{'s' if inner_steps > 1 else ''} of {rate}"
        print(f"  {halving}, {steps}", flush=True)
        rows = race(
            contestants, problems.maml(pooling=pooling, tasks=tasks), how.rounds, how.threads
        )
        title = f"Conv4-64 with {halving}, {steps}, {tasks} tasks"
        races.append({"title": title, "rows": rows})
    return races


def memory(how: Measuring) -> Any:
    """Peak resident memory of one meta-gradient, each in a fresh process."""
    rows = []
    settings = {"pooling": "max", "inner_steps": 1, "rate": 0.4}
    for name, call, more in (
        ("quickstudy", "ours:maml", {}),
        ("quickstudy, a task at a time", "ours:maml", {"at_once": 1}),
        ("plain PyTorch", "plain:maml", {}),
    ):
        grown = {}
        for tasks in (4, 32):
            with tempfile.TemporaryDirectory() as folder:
                file = save(problems.maml(tasks=tasks), Path(folder) / "problem.npz")
                contestant = Contestant(name, call, settings=settings | more)
                with Worker(contestant, file, how.threads) as worker:
                    grown[tasks] = worker.ask(do="time")["grown_mib"]
        rows.append({"name": name, "grown_mib": grown})
        print(f"    {name}: {grown} MiB", flush=True)
    return rows


def prototypes(how: Measuring) -> Any:
    """A training step of a prototypical network: 60-way 1-shot, 5 queries."""
    settings = {"ways": 60}
    as_easyfsl = f"{PLAIN}, as easyfsl computes"
    contestants = [
        *variants("ours:prototypes", settings, ("", ", bfloat16", ", compiled")),
        Contestant("its convolutions alone", "ours:convolutions"),
        Contestant(PLAIN, "plain:prototypes", OURS, settings),
        Contestant(as_easyfsl, "plain:prototypes", OURS, settings | {"apart": True}),
        Contestant("easyfsl", "easyfsl_library:prototypes", PEERS, settings, as_easyfsl),
    ]
    return race(contestants, problems.prototypes(ways=60), how.rounds * 2, how.threads)


def evaluation(how: Measuring) -> Any:
    """Evaluation on stored features of 640 numbers."""
    call = "ours:evaluation"
    ours, theirs = (1000, 100) if how.quick else (10_000, 300)
    ridge = {"episodes": ours, "strategy": "R2D2"}
    contestants = [
        Contestant("quickstudy", call, OURS, {"episodes": ours}, units=ours),
        Contestant("quickstudy, ridge regression (R2D2)", call, OURS, ridge, units=ours),
        Contestant(
            "easyfsl",
            "easyfsl_library:evaluation",
            PEERS,
            {"episodes": theirs},
            "quickstudy",
            0.03,  # other tasks are drawn: three standard errors of the mean over 100
            units=theirs,
        ),
    ]
    return race(contestants, problems.features(), how.rounds, how.threads)


def sampler(how: Measuring) -> Any:
    """Drawing the indices of tasks from 1,600 classes of 20."""
    call = "ours:sampler"
    many, single = {"episodes": 32_000, "tasks": 32}, {"episodes": 2000, "tasks": 1}
    contestants = [
        Contestant("quickstudy, a task at a time", call, OURS, single, units=2000),
        Contestant("quickstudy, 32 tasks at a time", call, OURS, many, units=32_000),
        Contestant("easyfsl", "easyfsl_library:sampler", PEERS, {"episodes": 1000}, units=1000),
    ]
    problem = {"labels": problems.class_labels(1600, 20)}
    return race(contestants, problem, how.rounds, how.threads)


def startup(how: Measuring) -> Any:
    """Starting a process."""
    python = str(OURS)
    commands: dict[str, list[str]] = {
        "quickstudy --help": [python, "-m", "quickstudy", "--help"],
        'python -c "import quickstudy"': [python, "-c", "import quickstudy"],
        'python -c "pass"': [python, "-c", "pass"],
        'python -c "import torch"': [python, "-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    for _ in range(2 * how.rounds + 1):
        for name, command in commands.items():
            seconds[name].append(timed(functools.partial(subprocess.run, command, **quiet))[1])
    return [
        {
            "name": name,
            "seconds": times[1:],  # the first reads files from disk
            "median_seconds": statistics.median(times[1:]),
            "ratio": ratios(times[1:], seconds["quickstudy --help"][1:]),
        }
        for name, times in seconds.items()
    ]


def classifier(how: Measuring) -> Any:
    """From photographs to a classifier at the command line, and its answers."""
    with tempfile.TemporaryDirectory() as folder:
        generator, work = np.random.default_rng(0), Path(folder)
        for label, number in itertools.product(range(12), range(6)):
            pixels = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
            # The run learns from all of them, the classifier from 5 of 10 classes.
            for part in ["photos", "few"] if label < 10 and number < 5 else ["photos"]:
                (work / part / f"class{label}").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(work / part / f"class{label}/{number}.jpg")
        options = "--split 0.6,0.4 --encoder Conv4 --queries 3 --steps 2"
        training = f"train --data photos {options} --out run"
        learn = "learn few -o few.qs --strategy run"
        predict = "predict few.qs photos/class0/5.jpg"
        seconds: dict[str, list[float]] = {"learn": [], "predict": []}
        environment = os.environ | {"QUICKSTUDY_CACHE": str(work / "cache")}
        quiet = {"check": True, "cwd": work, "env": environment, "capture_output": True}
        for command in [training, *[learn, predict] * (how.rounds + 1)]:
            words = [str(OURS), "-m", "quickstudy", *command.split()]
            spent = timed(functools.partial(subprocess.run, words, **quiet))[1]
            seconds.setdefault(command.split()[0], []).append(spent)
        from quickstudy import FewShotClassifier

        learned, photo = FewShotClassifier.load(work / "few.qs"), str(work / "photos/class0/5.jpg")
        warm = [timed(lambda: learned.predict([photo]))[1] for _ in range(10 * how.rounds)]
    rows = {
        "`quickstudy learn`, 10 classes of 5 photographs": seconds["learn"][1:],
        "`quickstudy predict`, one photograph": seconds["predict"][1:],
        "`classifier.predict`, one photograph, in Python": warm[1:],
    }
    return [
        {"name": name, "seconds": times, "median_seconds": statistics.median(times)}
        for name, times in rows.items()
    ]


def growth(how: Measuring) -> Any:
    """How cost grows."""
    return [grow(sweep, how.rounds, how.threads, ends_only=how.quick) for sweep in SWEEPS]


def profile(how: Measuring) -> Any:
    """Where the time goes."""
    one, many = {"ways": 5, "queries": 15, "tasks": 32}, {"ways": 60, "queries": 5, "tasks": 1}
    steps = 3 if how.quick else 10
    by_maml: dict[str, Any] = {"strategy": "MAML", "steps": steps} | one
    by_means: dict[str, Any] = {"strategy": "PrototypicalNetwork", "steps": 10 * steps} | many
    jobs = (
        ("MAML, one task", "step", {"strategy": "MAML", "ways": 5}),
        ("PrototypicalNetwork", "step", {"strategy": "PrototypicalNetwork", "ways": 60}),
        ("MAML", "training", by_maml | {"augment": False}),
        ("MAML, augmented", "training", by_maml | {"augment": True}),
        ("PrototypicalNetwork", "training", by_means | {"augment": False}),
        ("PrototypicalNetwork, augmented", "training", by_means | {"augment": True}),
    )
    found: dict[str, list[Any]] = {"step": [], "training": []}
    for name, function, settings in jobs:
        is_maml = settings["strategy"] == "MAML"
        problem = problems.maml(tasks=1) if is_maml else problems.prototypes(ways=60)
        with tempfile.TemporaryDirectory() as folder:
            file = save(problem, Path(folder) / "problem.npz")
            contestant = Contestant(name, f"profiles:{function}", settings=settings)
            # On one core no operator's time is spent waiting for another thread.
            threads = 1 if function == "step" else how.threads
            with Worker(contestant, file, threads) as worker:
                found[function].append({"name": name} | worker.ask(do="time")["result"])
        print(f"    {name}: {found[function][-1]['shares']}", flush=True)
    return found


PARTS: dict[str, Callable[[Measuring], Any]] = {name: globals()[name] for name in SECTIONS}
"""The measurement for each section of the page."""


def versions() -> dict[str, str]:
    """The versions of the compared packages that are installed."""
    program = (
        "import importlib.metadata as m, json, sys\n"
        "d = {x.metadata['Name']: x.version for x in m.distributions()}\n"
        f"print(json.dumps({{n: d[n] for n in {PACKAGES} if n in d}}))"
    )
    found: dict[str, str] = {"python": sys.version.split()[0]}
    for python in (PEERS, OURS):
        if python.exists():
            printed = subprocess.run([python, "-c", program], check=True, capture_output=True)
            found |= json.loads(printed.stdout)
    return found


OPTIONS: dict[str, dict[str, Any]] = {
    "--quick": {"action": "store_true", "help": "measure fewer rounds (five minutes)"},
    "--only": {"action": "append", "choices": PARTS, "help": "measure this part (repeatable)"},
    "--rounds": {"type": int, "help": "number of timed rounds (default: 7; 3 if quick)"},
    "--threads": {"type": int, "default": os.cpu_count(), "help": "default: all cores"},
}


def measure(options: argparse.Namespace, results: Results) -> str | None:
    """Measures the parts anew; returns why a contestant could not work."""
    rounds = options.rounds or (3 if options.quick else 7)
    how = Measuring(rounds, options.threads, options.quick)
    for name in options.only or PARTS:
        print(name, flush=True)
        load = os.getloadavg()[0]
        try:
            found, seconds = timed(functools.partial(PARTS[name], how))
        except ContestantError as error:
            return f"{name}: {error}"
        results[name] = {
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": versions(),
            "load_before": round(load, 2),
            "threads": how.threads,
            "rounds": how.rounds,
            "quick": how.quick,
            "minutes": round(seconds / 60, 2),
            "found": found,
        }
        results.pop("machine", None)  # every part states its own
        results.save()
    return None


BENCHMARK = Benchmark(
    measure, write_page, (PAGE, f"docs/{PLOT}"), "about 20 minutes", options=OPTIONS
)
