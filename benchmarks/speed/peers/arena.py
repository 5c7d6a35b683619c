"""Lets contestants do the same work in turns, each in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common.measuring import ROOT, ratios
from benchmarks.speed.peers.work import Problem

OURS, PEERS = Path(sys.executable), ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Contestant:
    """Who does the work.

    Args:
        name: its name in tables.
        call: "module:function" under peers/.
        python: the interpreter, and with it the environment.
        settings: arguments of the function.
        check: the contestant whose result must be the same, if any.
        tolerance: largest difference in that check; without it the difference is only reported.
        units: how many units (such as episodes) one call processes; times are per unit.
        environment: environment variables of the process.
    """

    name: str
    call: str
    python: Path = OURS
    settings: Mapping[str, Any] = field(default_factory=dict)
    check: str | None = None
    tolerance: float | None = 1e-4
    units: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


class ContestantError(RuntimeError):
    """A contestant could not do the work; the message is its own."""


class Worker:
    """A contestant's process."""

    def __init__(self, contestant: Contestant, problem: Path, threads: int) -> None:
        if not contestant.python.exists():
            raise ContestantError(f"{contestant.python.name} is not installed: run `make bench`")
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        environment |= contestant.environment
        self.process = subprocess.Popen(
            [contestant.python, Path(__file__).parent / "worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.ask(
            call=contestant.call,
            problem=str(problem),
            settings=dict(contestant.settings),
            threads=threads,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise ContestantError(answer["error"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def race(
    contestants: Sequence[Contestant], problem: Problem, rounds: int, threads: int
) -> list[dict[str, Any]]:
    """Lets each do the work once per round, in turns; a first round warms up and is checked.

    Ratios are relative to the first contestant: how many times its time each takes.

    Returns:
        A row for each: name, seconds of each round, their median, the ratio's median, least and
        largest, and differences from the contestant it is checked against; or an error.
    """
    rows: dict[str, dict[str, Any]] = {c.name: {"name": c.name} for c in contestants}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = save(problem, folder / "problem.npz")
        workers: dict[str, Worker] = {}
        for contestant in contestants:
            name = contestant.name
            try:
                worker = stack.enter_context(Worker(contestant, file, threads))
                rows[name] |= {"result": worker.ask(do="time")["result"], "seconds": []}
                worker.ask(do="gradient", file=str(folder / f"{name}.npz"))
                workers[name] = worker
            except ContestantError as error:
                rows[name] = {"name": name, "error": str(error)}
            print(f"    {name}: {rows[name].get('error', 'warm')}", flush=True)
        for contestant in contestants:
            if contestant.check in workers and contestant.name in workers:
                other = contestant.check
                rows[contestant.name] |= differences(rows, contestant, other, folder)
        units = {contestant.name: contestant.units for contestant in contestants}
        for number in range(rounds):
            for name, worker in workers.items():
                rows[name]["seconds"].append(worker.ask(do="time")["seconds"] / units[name])
            times = ", ".join(f"{rows[name]['seconds'][-1]:.4g}" for name in workers)
            print(f"    round {number + 1}: {times} s", flush=True)
    reference = rows[contestants[0].name]
    for row in rows.values():
        if "seconds" in row:
            row["median_seconds"] = statistics.median(row["seconds"])
            row["ratio"] = ratios(row["seconds"], reference["seconds"])
    return list(rows.values())


def differences(
    rows: Mapping[str, Mapping[str, Any]], contestant: Contestant, other: str, folder: Path
) -> dict[str, Any]:
    """By how much a contestant's loss and gradient differ from another's."""
    difference = abs(rows[contestant.name]["result"] - rows[other]["result"])
    own, others = (flat_gradient(folder / f"{name}.npz") for name in (contestant.name, other))
    found = {
        "checked_against": other,
        "loss_difference": difference,
        "tolerance": contestant.tolerance,
        "void": contestant.tolerance is not None and not difference <= contestant.tolerance,
    }
    if len(others):
        found["gradient_difference"] = float(np.linalg.norm(own - others) / np.linalg.norm(others))
    return found


def flat_gradient(file: Path) -> NDArray[np.float32]:
    """A stored gradient as one vector, in the order of the parameters' names."""
    with np.load(file) as stored:
        parts = [stored[name].ravel() for name in sorted(stored.files)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def save(problem: Problem, file: Path) -> Path:
    """Writes the problem for the workers."""
    arrays: dict[str, Any] = {
        k: v.numpy() if isinstance(v, Tensor) else v for k, v in problem.items()
    }
    np.savez(file, **arrays)
    return file
