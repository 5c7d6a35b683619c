"""What two options of training bring: turns, and a moving average of the weights.

Trains strategies for as many steps without and with them, and evaluates them on the test classes.
Writes docs/recipes.md from benchmarks/results/recipes.json; what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/recipes.py [--table] [DATA ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from results import RESULTS, ROOT, machine, percent

import quickstudy as qs
from quickstudy.strategies import Strategy

PATH = RESULTS / "recipes.json"
PAGE = ROOT / "docs" / "recipes.md"
EPISODES = 600
PROTOCOLS = ((5, 1), (5, 5), (20, 1))  # ways, shots


@dataclass(frozen=True)
class Setting:
    """What is trained, on which tasks.

    Args:
        data: a data set's name.
        strategy: makes the strategy around an encoder.
        ways: classes in a training task.
        shots: support examples a class.
        queries: query examples a class.
        recipes: names of RECIPES.
        steps: of training.
        learning_rate: at the beginning.
    """

    data: str
    strategy: Callable[..., Strategy]
    ways: int
    shots: int
    queries: int
    recipes: tuple[str, ...] = ("plain", "turns")
    steps: int = 200
    learning_rate: float = 0.001

    @property
    def name(self) -> str:
        """In the results and on the page."""
        tasks = f"{self.ways}-way {self.shots}-shot, {self.queries} queries a class"
        return f"{self.data} | {self.strategy.__name__} | {tasks} | {self.steps}"


def options_of(recipe: str, setting: Setting) -> dict[str, Any]:
    """What a recipe says to the trainer."""
    turns = (setting.shots + setting.queries) // setting.shots  # each in the support once
    return {
        "plain": {"schedule": "cosine"},
        "turns": {"schedule": "cosine", "turns": turns},
        "turns, average": {"schedule": "constant", "turns": turns, "ema": 0.998},
    }[recipe]


ALL = ("plain", "turns", "turns, average")
SETTINGS = (
    Setting("glyphs", qs.strategies.PrototypicalNetwork, 20, 1, 5),
    Setting("glyphs", qs.strategies.Hypernetwork, 20, 1, 5),
    Setting("omniglot", qs.strategies.PrototypicalNetwork, 20, 1, 5, ALL, 3000, 0.003),
    Setting("cifar-fs", qs.strategies.PrototypicalNetwork, 20, 1, 5),
    Setting("cifar-fs", qs.strategies.R2D2, 5, 5, 15),
)


def measure(setting: Setting, recipe: str) -> dict[str, Any]:
    """Trains and evaluates one strategy."""
    parts = qs.load_dataset(setting.data).split()
    torch.manual_seed(0)
    strategy = setting.strategy(qs.encoders.Conv4(parts["train"].shape))
    run = qs.fit(
        strategy,
        parts["train"],
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
            strategy, parts["test"], ways=ways, shots=shots, episodes=EPISODES
        ).to_dict()["accuracy"]
        for ways, shots in PROTOCOLS
        if ways <= parts["test"].classes
    }
    seconds = round(run.progress["seconds"], 1)
    return {"seconds": seconds, "machine": machine(), "accuracies": accuracies}


def page(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The documentation's page."""
    lines = [
        "# Two options of training",
        "",
        "**Turns.** A training task of 1 + 5 examples a class is usually learned from once: one",
        "example of each class is the support, the others are queries. With `turns=6` each is the",
        "support once. The encoder, where nearly all of the time goes, still sees each example",
        "once.",
        "",
        "**An average.** With `ema=0.998` what is validated, saved and used is a moving average of",
        "the weights, over the last five hundred steps or so. The learning rate then need not",
        "fall.",
        "",
        "Conv4, Adam, the rest the same: *plain* and *turns* with a rate that falls along a",
        "cosine, *turns, average* with a constant one. Accuracy in % with its 95 % interval on",
        f"{EPISODES} tasks of the test classes. `python benchmarks/recipes.py` repeats it.",
        "",
        "| data | strategy | trained on | steps | recipe | "
        + " | ".join(f"{ways}-way {shots}-shot" for ways, shots in PROTOCOLS)
        + " | training |",
        "|" + " --- |" * (6 + len(PROTOCOLS)),
    ]
    machines = set()
    for name, of_recipes in results.items():
        for recipe, found in of_recipes.items():
            machines.add(found["machine"])
            cells = [
                percent(found["accuracies"][key], 2) if key in found["accuracies"] else "—"
                for key in (f"{ways}-way {shots}-shot" for ways, shots in PROTOCOLS)
            ]
            lines.append(f"| {name} | {recipe} | {' | '.join(cells)} | {found['seconds']:.0f} s |")
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(machines))}, one core."]) + "\n"


def main() -> None:
    """Measures what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("data", nargs="*", metavar="DATA", help="only those data sets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(PATH.read_text()) if PATH.exists() else {}
    for setting in () if options.table else SETTINGS:
        if options.data and setting.data not in options.data:
            continue
        for recipe in setting.recipes:
            known = results.setdefault(setting.name, {})
            if recipe not in known:
                known[recipe] = measure(setting, recipe)
                PATH.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
