"""What bfloat16 costs in accuracy: the same trainings in both precisions, on Omniglot.

    QUICKSTUDY_DATA=folder python benchmarks/precision.py [--table]

Writes docs/precision.md from benchmarks/results/precision.json; what is there is not done twice.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from results import RESULTS, ROOT, machine

import quickstudy as qs
from quickstudy.strategies import Strategy

PATH = RESULTS / "precision.json"
PAGE = ROOT / "docs" / "precision.md"
PRECISIONS = ("32-true", "bf16-mixed")
SEEDS = (0, 1)
EPISODES = 1000

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


def measure(name: str, precision: str, seed: int) -> dict[str, Any]:
    """Trains once and tests."""
    make, settings = TRAININGS[name]
    parts = qs.load_dataset("omniglot").split()
    torch.manual_seed(seed)
    run = qs.fit(
        make(), parts["train"], schedule="cosine", precision=precision, seed=seed, **settings
    )
    if not run.progress["finished"]:
        raise SystemExit("Stopped; what was finished is kept.")
    report = qs.evaluate(run, parts["test"], ways=5, shots=1, episodes=EPISODES)
    accuracy = report.accuracy
    return {
        "accuracy": accuracy.mean,
        "ci95": accuracy.ci95,
        "loss": run.history[-1]["loss"],
    }


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Precision",
        "",
        "`--precision bf16-mixed` computes activations in bfloat16, parameters and whatever needs",
        f"it in float32. The same trainings in both, Omniglot 5-way 1-shot, {EPISODES} test",
        "episodes, accuracy in % with its 95 % interval; two seeds show how far two trainings",
        "differ anyway. How much faster it is: [performance](performance.md).",
        "`python benchmarks/precision.py` repeats it.",
        "",
        "| strategy | seed | float32 | bfloat16 | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in TRAININGS:
        for seed in SEEDS:
            full, half = (results["runs"].get(f"{name} {p} {seed}") for p in PRECISIONS)
            if full and half:
                cells = [f"{100 * r['accuracy']:.2f} ± {100 * r['ci95']:.2f}" for r in (full, half)]
                cells.append(f"{100 * (half['accuracy'] - full['accuracy']):+.2f}")
                lines.append(f"| {name} | {seed} | {' | '.join(cells)} |")
    lines += ["", f"Measured on {results['machine']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains, measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "runs": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    wanted = [(name, p, seed) for name in TRAININGS for seed in SEEDS for p in PRECISIONS]
    for name, precision, seed in [] if options.table else wanted:
        key = f"{name} {precision} {seed}"
        if key not in results["runs"]:
            results["runs"][key] = measure(name, precision, seed)
            PATH.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
