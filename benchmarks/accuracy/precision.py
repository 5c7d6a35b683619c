"""What bfloat16 costs in accuracy: the same trainings in both precisions, on Omniglot.

What is stored is not measured again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import torch

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import percent
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from benchmarks.common.training import EPISODES, fitted
from quickstudy.strategies import Strategy

PRECISIONS = ("32-true", "bf16-mixed")
SEEDS = (0, 1)

TRAININGS: dict[str, tuple[Callable[[], Strategy], dict[str, Any]]] = {
    "PrototypicalNetwork": (
        lambda: qs.strategies.PrototypicalNetwork(qs.encoders.Conv4((1, 28, 28))),
        {"ways": 60, "queries": 5, "steps": 1000},
    ),
    "MAML": (
        lambda: qs.strategies.MAML(
            qs.encoders.Conv4((1, 28, 28), pooling="stride"), ways=5, transductive=True
        ),
        {"ways": 5, "tasks": 16, "steps": 600, "clip_norm": 10.0},
    ),
}


def trained(name: str, precision: str, seed: int) -> dict[str, float]:
    """Trains once and evaluates on the test classes."""
    make, settings = TRAININGS[name]
    splits = qs.load_dataset("omniglot").split()
    torch.manual_seed(seed)
    settings = {"schedule": "cosine", "precision": precision, "seed": seed, **settings}
    run = fitted(make(), splits["train"], **settings)
    accuracy = qs.evaluate(run, splits["test"], ways=5, shots=1, episodes=EPISODES).accuracy
    loss = run.history[-1]["loss"]
    return {"accuracy": accuracy.mean, "ci95": accuracy.ci95, "loss": loss}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains what is missing."""
    wanted = itertools.product(TRAININGS, SEEDS, PRECISIONS)
    keys = {
        f"{name} {precision} {seed}": (name, precision, seed) for name, seed, precision in wanted
    }
    for key in results.missing("runs", keys):
        results.keep("runs", key, trained(*keys[key]))


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    rows = []
    for name, seed in itertools.product(TRAININGS, SEEDS):
        full, half = (results["runs"].get(f"{name} {each} {seed}") for each in PRECISIONS)
        if full and half:
            cells = [percent({"mean": run["accuracy"], **run}, 2) for run in (full, half)]
            cells.append(f"{100 * (half['accuracy'] - full['accuracy']):+.2f}")
            rows.append([name, str(seed), *cells])
    head = ["strategy", "seed", "float32", "bfloat16", "difference"]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/precision.md", "precision", table(head, rows), measured)


BENCHMARK = Benchmark(
    measure, write, ("docs/precision.md",), "two hours on two cores", start={"runs": {}}
)
