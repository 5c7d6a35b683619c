"""Training with 1, 2 and 4 processes: how fast, and by how much the results differ.

    python benchmarks/ranks.py [--table]

Takes some minutes on two quiet cores. Measures what benchmarks/results/ranks.json lacks, and writes
from it the tables in docs/distributed.md. Each process has one thread, so that what is gained
is gained by processes; one process with a thread for each core, which is what training does
by itself on one machine, stands beside them. The differences are of runs of 50 steps in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from results import RESULTS, ROOT, machine

import quickstudy as qs
from quickstudy.inputs import Augmentation, ImageInputs
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.strategies import Strategy

PATH = RESULTS / "ranks.json"
PAGE = ROOT / "docs" / "distributed.md"
PROCESSES = (1, 2, 4)
WARM_UP, TIMED, ROUNDS = 2, 6, 3  # steps, steps, and the fastest of so many rounds counts
STEPS = 50  # of the runs that are compared

Case = tuple[Callable[[], Strategy], dict[str, Any]]

SPEED: dict[str, Case] = {
    "prototypes, Conv4-64, 84x84x3, 5-way 1-shot, 8 tasks a step": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((3, 84, 84))),
        {"ways": 5, "shots": 1, "queries": 5, "tasks": 8},
    ),
    "MAML, second order, Conv4-64, 28x28x1, 5-way 1-shot, 16 tasks a step": (
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
    "prototypes, 5 tasks a step": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((1, 28, 28), channels=16)),
        {"tasks": 5},
    ),
    "MAML, 5 tasks a step": (
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
    """Noisy copies of a random picture a class: the same for everyone, and nothing to load."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(0, 256, (CLASSES, 1, *shape), generator=generator)
    noise = torch.randint(-60, 61, (CLASSES, EACH, *shape), generator=generator)
    images = (own + noise).clamp(0, 255).to(torch.uint8).flatten(0, 1)
    names = [f"class{number:02}" for number in range(CLASSES)]
    inputs = ImageInputs(shape[1], shape[0])
    return qs.ClassDataset.contiguous(images, [EACH] * CLASSES, names, inputs, "noise")


def work(name: str, devices: int, out: Path) -> None:
    """Trains; every process of a run comes here."""
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
    """Starts the processes; returns what they saved last."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, __file__, "--work", name, str(devices), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
        return Checkpoint.load(out / "checkpoints" / "last.safetensors")


def seconds_a_step(saved: Checkpoint) -> float:
    """The mean after the first steps."""
    seconds = [float(row["seconds"] or 0) for row in saved.history]
    return (seconds[-1] - seconds[WARM_UP - 1]) / TIMED


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors, over the largest number in them."""
    return float((one - other).abs().max() / other.abs().max())


def differences(found: Checkpoint, expected: Checkpoint) -> dict[str, float]:
    """The largest relative difference of a loss, and that of the weights, of any tensor."""
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


def measure() -> None:
    """What is still missing."""
    cores = os.cpu_count() or 1
    ways = [(count, 1) for count in PROCESSES] + ([(1, cores)] if cores > 1 else [])
    result: dict[str, Any] = {"machine": machine(), "speed": {}, "differences": {}}
    if PATH.exists():
        result = json.loads(PATH.read_text(encoding="utf-8"))
    for name in DIFFERENCES.keys() - result["differences"].keys():
        alone = run(name, 1)
        result["differences"][name] = {
            str(count): differences(run(name, count), alone) for count in PROCESSES[1:]
        }
        _keep(name, "differences", result)
    for name in SPEED.keys() - result["speed"].keys():
        fastest = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS):  # in turns: what else the machine does meets all of them
            for way in ways:
                fastest[way] = min(fastest[way], seconds_a_step(run(name, *way)))
        result["speed"][name] = [
            {"processes": count, "threads": threads, "seconds": seconds}
            for (count, threads), seconds in fastest.items()
        ]
        _keep(name, "speed", result)


def _keep(name: str, part: str, result: dict[str, Any]) -> None:
    print(name, result[part][name], flush=True)
    PATH.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def speed_table(result: dict[str, Any]) -> str:
    """Seconds a step, and how many times faster than one process of one thread."""
    if not result["speed"]:
        return "Not measured yet."
    lines = ["| processes x threads | " + " | ".join(result["speed"]) + " |"]
    lines.append("| --- |" + " --- |" * len(result["speed"]))
    for rows in zip(*result["speed"].values(), strict=True):
        cells = [f"{rows[0]['processes']} x {rows[0]['threads']}"]
        for row, of_case in zip(rows, result["speed"].values(), strict=True):
            gain = of_case[0]["seconds"] / row["seconds"]
            cells.append(f"{1000 * row['seconds']:.0f} ms a step, **{gain:.2f}**")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Measured on {result['machine']}."])


def differences_table(result: dict[str, Any]) -> str:
    """The largest relative differences from one process."""
    lines = ["| run | processes | losses | weights |", "| --- | --- | --- | --- |"]
    for name, counts in result["differences"].items():
        for count, found in counts.items():
            cells = [f"{found[part]:.0e}" if found[part] else "0" for part in ("loss", "weights")]
            lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(result: dict[str, Any]) -> None:
    """Puts the tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for part, table in (("speed", speed_table), ("differences", differences_table)):
        begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table(result)}\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """Measures and writes; or works, as one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the tables")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, devices, out = options.work
        work(name, int(devices), Path(out))
        return
    if not options.table:
        measure()
    write_page(json.loads(PATH.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
