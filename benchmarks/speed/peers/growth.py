"""How time and memory grow with the size of the problem, next to how the arithmetic does."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.peers import problems
from benchmarks.speed.peers.arena import Contestant, Worker, save
from benchmarks.speed.peers.work import Problem

MAML = {"pooling": "max", "inner_steps": 1, "rate": 0.01}


@dataclass(frozen=True)
class Sweep:
    """One thing that grows while the others stay.

    Args:
        name: what is done.
        axis: what grows.
        sizes: its values.
        call: of quickstudy's contestant.
        problem: the problem of a size.
        settings: the contestant's settings at a size.
        reference: the plain contestant whose arithmetic is counted, if there is any to count.
    """

    name: str
    axis: str
    sizes: Sequence[int]
    call: str
    problem: Callable[[int], Problem]
    settings: Callable[[int], Mapping[str, Any]]
    reference: str | None


def maml(axis: str, sizes: Sequence[int]) -> Sweep:
    """A sweep of MAML's meta-gradient; 4 tasks unless they are what grows."""

    def problem(size: int) -> Problem:
        sizes: dict[str, Any] = {"tasks": 4} | ({axis: size} if axis != "inner_steps" else {})
        return problems.maml(**sizes)

    return Sweep(
        "MAML step",
        axis,
        sizes,
        "ours:maml",
        problem,
        lambda n: MAML | ({axis: n} if axis in ("inner_steps", "ways") else {}),
        "plain:maml",
    )


def prototypes(axis: str, sizes: Sequence[int]) -> Sweep:
    """A sweep of a prototypical network's step; 20 ways unless they are what grows."""
    return Sweep(
        "prototype step",
        axis,
        sizes,
        "ours:prototypes",
        lambda n: problems.prototypes(**{"ways": 20} | {axis: n}),
        lambda n: {"ways": n if axis == "ways" else 20},
        "plain:prototypes",
    )


SWEEPS = (
    maml("tasks", (2, 4, 8, 16, 32)),
    maml("inner_steps", (1, 2, 4, 8)),
    maml("ways", (5, 10, 20)),
    maml("shots", (1, 5, 10, 20)),
    prototypes("ways", (10, 20, 40, 80)),
    prototypes("shots", (1, 5, 10, 20)),
    Sweep(
        "drawing 512 tasks' indices",
        "classes",
        (100, 1_000, 10_000, 100_000),
        "ours:sampler",
        lambda n: {"labels": problems.class_labels(n, 20)},
        lambda _: {"episodes": 512, "tasks": 32},
        None,
    ),
)


def grow(sweep: Sweep, rounds: int, threads: int, *, ends_only: bool = False) -> dict[str, Any]:
    """Measures a sweep, each size in a process of its own; or its least and largest only.

    Returns:
        Its points (size, seconds, peak growth of memory in the first call, operations), and for
        each of the three the exponent p of size^p that fits best. Where nothing is there to count,
        the arithmetic's exponent is 0.
    """
    points = []
    for size in (sweep.sizes[0], sweep.sizes[-1]) if ends_only else sweep.sizes:
        settings = sweep.settings(size)
        with tempfile.TemporaryDirectory() as folder:
            file = save(sweep.problem(size), Path(folder) / "problem.npz")
            with Worker(
                Contestant(sweep.name, sweep.call, settings=settings), file, threads
            ) as own:
                grown = own.ask(do="time")["grown_mib"]
                seconds = [own.ask(do="time")["seconds"] for _ in range(max(3, rounds))]
            operations = None
            if sweep.reference:
                plain = Contestant("plain", sweep.reference, settings=settings)
                with Worker(plain, file, threads) as other:
                    operations = other.ask(do="arithmetic")["operations"]
        point = {"size": size, "seconds": statistics.median(seconds), "mib": grown}
        points.append(point | {"operations": operations})
        print(f"    {sweep.name}, {size} {sweep.axis}: {point['seconds']:.4g} s", flush=True)
    exponents = {"operations": 0.0} | {
        quantity: exponent([p["size"] for p in points], [p[quantity] for p in points])
        for quantity in ("seconds", "mib", "operations")
        if all(p[quantity] for p in points)
    }
    return {"name": sweep.name, "axis": sweep.axis, "points": points, "exponents": exponents}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the line that fits the logarithms best."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
