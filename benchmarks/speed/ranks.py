"""Training with 1, 2 and 4 processes: how fast, and by how much the results differ.

Each process has one thread, so that the gain is that of processes; one process with a thread for
each core, the default on one machine, is measured beside them. The differences are those of runs of
50 steps in float32. What is stored is not measured again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.measuring import in_a_process
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from quickstudy.inputs import Augmentation, ImageInputs
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.strategies import Strategy

PAGE = "docs/distributed.md"
PROCESSES = (1, 2, 4)
WARM_UP, TIMED, ROUNDS = 2, 6, 3  # steps, steps, and the fastest of the rounds counts
STEPS = 50  # of the compared runs

Case = tuple[Callable[[], Strategy], dict[str, Any]]

SPEED: dict[str, Case] = {
    "prototypes, Conv4-64, 84x84x3, 5-way 1-shot, 8 tasks per step": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((3, 84, 84))),
        {"ways": 5, "shots": 1, "queries": 5, "tasks": 8},
    ),
    "MAML, second order, Conv4-64, 28x28x1, 5-way 1-shot, 16 tasks per step": (
        lambda: qs.strategies.MAML(qs.encoders.Conv4((1, 28, 28)), ways=5, transductive=True),
        {"ways": 5, "shots": 1, "tasks": 16},
    ),
}

SMALL = {"ways": 5, "shots": 1, "queries": 5, "learning_rate": 1e-3}
DIFFERENCES: dict[str, Case] = {
    "prototypes, augmented": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((1, 28, 28), channels=16)),
        {"tasks": 4, "augmentation": Augmentation(degrees=15.0, shift=0.1)},
    ),
    "prototypes, 5 tasks per step": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((1, 28, 28), channels=16)),
        {"tasks": 5},
    ),
    "MAML, 5 tasks per step": (
        lambda: qs.strategies.MAML(
            qs.encoders.Conv4((1, 28, 28), channels=16), ways=5, inner_learning_rate=0.1
        ),
        {"tasks": 5},
    ),
    "FEAT, with dropout": (
        lambda: qs.strategies.FEAT(qs.encoders.Conv4((1, 28, 28), channels=16)),
        {"tasks": 4},
    ),
    "Baseline, ordinary batches": (
        lambda: qs.strategies.Baseline(
            qs.encoders.Conv4((1, 28, 28), channels=16), classes=CLASSES
        ),
        {"tasks": 4, "batch_size": 32},
    ),
}

CLASSES, EACH = 64, 40


def pictures(shape: Sequence[int]) -> qs.ClassDataset:
    """Noisy copies of one random picture per class, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(0, 256, (CLASSES, 1, *shape), generator=generator)
    noise = torch.randint(-60, 61, (CLASSES, EACH, *shape), generator=generator)
    images = (own + noise).clamp(0, 255).to(torch.uint8).flatten(0, 1)
    names = [f"class{number:02}" for number in range(CLASSES)]
    inputs = ImageInputs(shape[1], shape[0])
    return qs.ClassDataset.contiguous(images, [EACH] * CLASSES, names, inputs, "noise")


def work(name: str, devices: int, out: str) -> None:
    """Trains; every process of a run executes this."""
    make, settings = (SPEED | DIFFERENCES)[name]
    timed = name in SPEED
    torch.manual_seed(0)
    qs.fit(
        make(),
        pictures((3, 84, 84) if "84x84" in name else (1, 28, 28)),
        out=out,
        devices=devices,
        accelerator="cpu",
        log_every=1,
        show_progress=False,
        steps=WARM_UP + TIMED if timed else STEPS,
        **({} if timed else SMALL) | settings,
    )


def run(name: str, devices: int, threads: int = 1) -> Checkpoint:
    """Starts the processes; returns the last checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"OMP_NUM_THREADS": str(threads)}
        in_a_process("speed/ranks", "work", name, devices, folder, environment=environment)
        return Checkpoint.load(Path(folder) / "checkpoints" / "last.safetensors")


def seconds_per_step(saved: Checkpoint) -> float:
    """The mean time of a step after the first ones."""
    seconds = [float(row["seconds"] or 0) for row in saved.history]
    return (seconds[-1] - seconds[WARM_UP - 1]) / TIMED


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors relative to the largest number in them."""
    return float((one - other).abs().max() / other.abs().max())


def differences(found: Checkpoint, expected: Checkpoint) -> dict[str, float]:
    """The largest relative difference of any step's loss and of any tensor of weights."""
    losses, others = (
        torch.tensor([row["loss"] for row in saved.history], dtype=torch.float64)
        for saved in (found, expected)
    )
    weights = [
        relative(found.model[name].double(), tensor.double())
        for name, tensor in expected.model.items()
        if tensor.is_floating_point()
    ]
    return {"loss": float(((losses - others) / others).abs().max()), "weights": max(weights)}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing."""
    cores = os.cpu_count() or 1
    ways = [(count, 1) for count in PROCESSES] + ([(1, cores)] if cores > 1 else [])
    for name in results.missing("differences", DIFFERENCES):
        alone = run(name, 1)
        found = {str(count): differences(run(name, count), alone) for count in PROCESSES[1:]}
        results.keep("differences", name, found)
    for name in results.missing("speed", SPEED):
        fastest = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):  # in turns, so that other load affects all of them
            for way in ways:
                fastest[way] = min(fastest[way], seconds_per_step(run(name, *way)))
        rows = [
            {"processes": count, "threads": threads, "seconds": seconds}
            for (count, threads), seconds in fastest.items()
        ]
        results.keep("speed", name, rows)


def write(results: Results, pages: Pages) -> None:
    """Puts both tables into the page."""
    speed = []
    for rows in zip(*results["speed"].values(), strict=True):
        cells = [f"{rows[0]['processes']} x {rows[0]['threads']}"]
        for row, case in zip(rows, results["speed"].values(), strict=True):
            gain = case[0]["seconds"] / row["seconds"]
            cells.append(f"{1000 * row['seconds']:.0f} ms per step, **{gain:.2f}**")
        speed.append(cells)
    blocks = [table(["processes x threads", *results["speed"]], speed)]
    pages.splice(PAGE, "speed", *blocks, pages.measured_on(results["machine"]))
    found = [
        [name, count, *(f"{each[part]:.0e}" if each[part] else "0" for part in ("loss", "weights"))]
        for name, counts in results["differences"].items()
        for count, each in counts.items()
    ]
    head = ["run", "processes", "losses", "weights"]
    pages.splice(PAGE, "differences", table(head, found))


BENCHMARK = Benchmark(
    measure,
    write,
    (PAGE,),
    "some minutes on two quiet cores",
    start={"speed": {}, "differences": {}},
)
