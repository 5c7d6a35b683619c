"""What it brings that the examples of a training task take turns at being its support.

Trains strategies for as many steps without turns and with as many as there are, and evaluates them
on the test classes. Writes docs/turns.md from benchmarks/results/turns.json; what is there is not
done twice.

    QUICKSTUDY_DATA=folder python benchmarks/turns.py [--table]
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

PATH = RESULTS / "turns.json"
PAGE = ROOT / "docs" / "turns.md"
STEPS, EPISODES = 200, 600
PROTOCOLS = ((5, 1), (5, 5))  # ways, shots


@dataclass(frozen=True)
class Setting:
    """What is trained, on which tasks.

    Args:
        data: a data set's name.
        strategy: makes the strategy around an encoder.
        ways: classes in a training task.
        shots: support examples a class.
        queries: query examples a class.
    """

    data: str
    strategy: Callable[..., Strategy]
    ways: int
    shots: int
    queries: int

    @property
    def name(self) -> str:
        """In the results and on the page."""
        tasks = f"{self.ways}-way {self.shots}-shot, {self.queries} queries a class"
        return f"{self.data} | {self.strategy.__name__} | {tasks}"

    @property
    def turns(self) -> int:
        """So many that each example is in the support once."""
        return (self.shots + self.queries) // self.shots


SETTINGS = (
    Setting("glyphs", qs.PrototypicalNetwork, 20, 1, 5),
    Setting("glyphs", qs.Hypernetwork, 20, 1, 5),
    Setting("cifar-fs", qs.PrototypicalNetwork, 20, 1, 5),
    Setting("cifar-fs", qs.R2D2, 5, 5, 15),
)


def measure(setting: Setting, turns: int) -> dict[str, Any]:
    """Trains and evaluates one strategy."""
    parts = qs.load_dataset(setting.data).split()
    torch.manual_seed(0)
    strategy = setting.strategy(qs.Conv4(parts["train"].shape))
    run = qs.fit(
        strategy,
        parts["train"],
        ways=setting.ways,
        shots=setting.shots,
        queries=setting.queries,
        turns=turns,
        steps=STEPS,
        schedule="cosine",
        log_every=STEPS,
    )
    accuracies = {
        f"{ways}-way {shots}-shot": qs.evaluate(
            strategy, parts["test"], ways=ways, shots=shots, episodes=EPISODES
        ).to_dict()["accuracy"]
        for ways, shots in PROTOCOLS
    }
    seconds = round(run.progress["seconds"], 1)
    return {"seconds": seconds, "machine": machine(), "accuracies": accuracies}


def page(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The documentation's page."""
    lines = [
        "# Turns",
        "",
        "A training task of 1 + 5 examples a class is usually learned from once: one example of",
        "each class is the support, the others are queries. With `turns=6` each is the support",
        "once. The encoder, where nearly all of the time goes, still sees each example once.",
        "",
        f"{STEPS} steps with and without, Conv4, Adam at 0.001 falling along a cosine, the rest",
        f"the same; accuracy in % with its 95 % interval on {EPISODES} tasks of the test classes.",
        "`python benchmarks/turns.py` repeats it.",
        "",
        "| data | strategy | trained on | turns | 5-way 1-shot | 5-way 5-shot | training |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    machines = set()
    for name, of_turns in results.items():
        for turns, found in of_turns.items():
            machines.add(found["machine"])
            cells = [percent(accuracy, 2) for accuracy in found["accuracies"].values()]
            lines.append(f"| {name} | {turns} | {' | '.join(cells)} | {found['seconds']:.0f} s |")
    return "\n".join([*lines, "", f"Measured on {'; '.join(sorted(machines))}, one core."]) + "\n"


def main() -> None:
    """Measures what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(PATH.read_text()) if PATH.exists() else {}
    for setting in () if options.table else SETTINGS:
        for turns in (1, setting.turns):
            known = results.setdefault(setting.name, {})
            if str(turns) not in known:
                known[str(turns)] = measure(setting, turns)
                PATH.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
