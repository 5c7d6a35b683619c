"""What two training options gain: support rotations, and a moving average of the weights.

Trains strategies for the same number of steps with and without them, and evaluates them on the test
classes. What is stored is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import percent
from benchmarks.common.machine import machine
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from benchmarks.common.training import fitted
from quickstudy.strategies import Strategy

EPISODES = 600
PROTOCOLS = ((5, 1), (5, 5), (20, 1))  # ways, shots


@dataclass(frozen=True)
class Setting:
    """What is trained, on which tasks.

    Args:
        data: name of the data set.
        strategy: makes the strategy around an encoder.
        ways: classes per training task.
        shots: support examples per class.
        queries: query examples per class.
        recipes: the recipes to compare.
        steps: number of training steps.
        learning_rate: initial learning rate.
    """

    data: str
    strategy: Callable[..., Strategy]
    ways: int
    shots: int
    queries: int
    recipes: tuple[str, ...] = ("plain", "rotations")
    steps: int = 200
    learning_rate: float = 0.001

    @property
    def name(self) -> str:
        """The key in the results, and the first cells of the row on the page."""
        tasks = f"{self.ways}-way {self.shots}-shot, {self.queries} queries per class"
        return f"{self.data} | {self.strategy.__name__} | {tasks} | {self.steps}"


def options_of(recipe: str, setting: Setting) -> dict[str, Any]:
    """The trainer's options for a recipe."""
    examples = setting.shots + setting.queries
    rotated = {"support_rotations": examples // setting.shots}  # each is the support once
    return {
        "plain": {"schedule": "cosine"},
        "rotations": {"schedule": "cosine", **rotated},
        "rotations, average": {"schedule": "constant", **rotated, "ema": 0.998},
    }[recipe]


ALL = ("plain", "rotations", "rotations, average")
SETTINGS = (
    Setting("glyphs", qs.strategies.PrototypicalNetwork, 20, 1, 5),
    Setting("glyphs", qs.strategies.Hypernetwork, 20, 1, 5),
    Setting("omniglot", qs.strategies.PrototypicalNetwork, 20, 1, 5, ALL, 3000, 0.003),
    Setting("cifar-fs", qs.strategies.PrototypicalNetwork, 20, 1, 5),
    Setting("cifar-fs", qs.strategies.R2D2, 5, 5, 15),
)


def trained(setting: Setting, recipe: str) -> dict[str, Any]:
    """Trains and evaluates one strategy on one core."""
    torch.set_num_threads(1)
    splits = qs.load_dataset(setting.data).split()
    torch.manual_seed(0)
    strategy = setting.strategy(qs.encoders.Conv4(splits["train"].shape))
    run = fitted(
        strategy,
        splits["train"],
        ways=setting.ways,
        shots=setting.shots,
        queries=setting.queries,
        steps=setting.steps,
        learning_rate=setting.learning_rate,
        log_every=setting.steps,
        **options_of(recipe, setting),
    )
    accuracies = {
        f"{ways}-way {shots}-shot": qs.evaluate(
            strategy, splits["test"], ways=ways, shots=shots, episodes=EPISODES
        ).to_dict()["accuracy"]
        for ways, shots in PROTOCOLS
        if ways <= splits["test"].classes
    }
    seconds = round(run.progress["seconds"], 1)
    return {"seconds": seconds, "machine": machine(), "accuracies": accuracies}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains what is missing."""
    for setting in SETTINGS:
        if not options.data or setting.data in options.data:
            found = results["settings"].setdefault(setting.name, {})
            for recipe in setting.recipes:
                if recipe not in found:
                    found[recipe] = trained(setting, recipe)
                    results.save()


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    columns = [f"{ways}-way {shots}-shot" for ways, shots in PROTOCOLS]
    rows, machines = [], set()
    for name, recipes in results["settings"].items():
        for recipe, found in recipes.items():
            machines.add(found["machine"])
            cells = [
                percent(found["accuracies"][key], 2) if key in found["accuracies"] else "—"
                for key in columns
            ]
            rows.append([name, recipe, *cells, f"{found['seconds']:.0f} s"])
    head = ["data", "strategy", "trained on", "steps", "recipe", *columns, "training"]
    pages.splice("docs/recipes.md", "recipes", table(head, rows), pages.measured_on(machines))


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/recipes.md",),
    "half an hour on one core",
    start={"settings": {}},
    options={"data": {"nargs": "*", "help": "data sets to train on; by default all"}},
)
