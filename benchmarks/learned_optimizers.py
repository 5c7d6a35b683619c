"""Learned optimisers beside SGD, momentum, RMSprop and Adam: quadratics and small classifiers.

Trains an optimiser for each family of problems, tunes the rates of the others on training problems,
and compares all on new problems: at the horizon of the training, at twice the horizon, and on
larger problems. Writes docs/learned_optimizers.md and its picture from
benchmarks/results/learned_optimizers.json. It can be stopped and started again: what is there is
not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/learned_optimizers.py [--table] [FAMILY ...]
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from results import RESULTS, ROOT, machine
from torch import Tensor, nn

import quickstudy as qs
from quickstudy.evaluation.outcomes import mean_and_interval
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.strategies.recurrent.learned_optimizer import CoordinatewiseLSTM
from quickstudy.strategies.recurrent.optimization import (
    Family,
    Problems,
    classifiers,
    optimize,
    quadratics,
    train_optimizer,
)
from quickstudy.training.optimizer import optimizer_tensors, restore_optimizer

PATH = RESULTS / "learned_optimizers.json"
PAGE = ROOT / "docs" / "learned_optimizers.md"
PLOT = ROOT / "docs" / "images" / "learned-optimizers.svg"
RUNS = ROOT / "runs" / "learned_optimizers"

STEPS, WINDOW = 100, 20
AT_ONCE = 25
VALIDATION_SEED, TEST_SEED, TUNING_SEED = 10**6, 2 * 10**6, 3 * 10**6
RATES = [10 ** (k / 4) for k in range(-16, 5)]
POINT_EVERY = 5
DIVERGED = 1e6
"""Of a mean loss that began at ten or twenty."""
LEARNED = "learned"

RULES: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "SGD": lambda theta, rate: torch.optim.SGD(theta, rate),
    "momentum": lambda theta, rate: torch.optim.SGD(theta, rate, momentum=0.9),
    "RMSprop": lambda theta, rate: torch.optim.RMSprop(theta, rate),
    "Adam": lambda theta, rate: torch.optim.Adam(theta, rate),
}


@functools.cache
def characters(part: str) -> Tensor:
    """The characters of a part of Omniglot, each of 20 images of 14x14: ``[C, 20, 196]``."""
    data = qs.load_dataset("omniglot", rotations=False).split("vinyals")[part]
    each = int(data.sizes.min())
    classes = torch.arange(data.classes)[:, None].expand(-1, each)
    images = data.gather(classes, torch.arange(each).expand(data.classes, -1))
    return F.avg_pool2d(images.flatten(0, 1), 2).view(data.classes, each, -1)


@dataclass(frozen=True)
class Setting:
    """A family of problems, and how an optimiser learns from it.

    Args:
        family: the problems of a part of the data, usual or larger.
        about: the problems in words.
        larger: the larger ones in words.
        batches: of problems, to learn from.
        problems: in a batch.
        learning_rate: Adam's at the start; it falls to zero with the cosine.
        validate_every: batches.
        compared: problems to tune rates on, and new ones to compare on. Losses of quadratics are
            spread widely, so many.
    """

    family: Callable[[str, bool], Family]
    about: str
    larger: str
    batches: int
    problems: int
    learning_rate: float
    validate_every: int
    compared: int


def of_quadratics(part: str, larger: bool) -> Family:
    """All parts are alike, told apart by their seeds."""
    return functools.partial(quadratics, coordinates=20 if larger else 10)


def of_classifiers(part: str, larger: bool) -> Family:
    """Networks on characters of their own part."""
    return functools.partial(classifiers, characters(part), hidden=40 if larger else 20)


SETTINGS = {
    "quadratics": Setting(
        of_quadratics,
        "|Wθ − y|² of 10 coordinates, W and y standard normal",
        "20 coordinates",
        batches=600,
        problems=128,
        learning_rate=0.01,
        validate_every=25,
        compared=4000,
    ),
    "classifiers": Setting(
        of_classifiers,
        "a network of 20 sigmoid units that learns 10 characters of Omniglot at 14x14 from "
        "batches of 64 of their 200 images; test problems are of characters never trained on",
        "40 units",
        batches=250,
        problems=4,
        learning_rate=0.005,
        validate_every=25,
        compared=100,
    ),
}


def trained(name: str) -> tuple[CoordinatewiseLSTM, dict[str, Any]]:
    """The optimiser that was best on validation problems, and how training went."""
    setting = SETTINGS[name]
    torch.manual_seed(0)
    optimizer = CoordinatewiseLSTM()
    adam = torch.optim.Adam(optimizer.parameters(), setting.learning_rate)
    last, best = (RUNS / name / f"{which}.safetensors" for which in ("last", "best"))
    progress: dict[str, Any] = {"batches": 0, "seconds": 0.0, "validation": []}
    if last.exists():
        checkpoint = Checkpoint.load(last)
        checkpoint.restore_model(optimizer)
        restore_optimizer(adam, checkpoint.optimizer)
        progress = checkpoint.progress
    unseen = setting.family("validation", False)(setting.problems * 4, VALIDATION_SEED)
    family = setting.family("train", False)
    while (done := progress["batches"]) < setting.batches:
        started = time.perf_counter()
        until = min(done + setting.validate_every, setting.batches)
        for number in range(done, until):
            share = 0.5 * (1 + math.cos(math.pi * number / setting.batches))
            for group in adam.param_groups:
                group["lr"] = share * setting.learning_rate
            train_optimizer(optimizer, family, adam, [number], setting.problems, STEPS, WINDOW)
        final = float(optimize(optimizer, unseen, STEPS)[-1].mean())
        progress["batches"] = until
        progress["seconds"] += time.perf_counter() - started
        progress["validation"].append(final)
        print(f"{name}: {until} of {setting.batches} batches, validation loss {final:.4f}")
        now = Checkpoint(
            {"class_path": "CoordinatewiseLSTM"},
            {},
            optimizer.state_dict(),
            optimizer_tensors(adam),
            progress,
        )
        if final == min(progress["validation"]):
            now.save(best)
        now.save(last)
    Checkpoint.load(best).restore_model(optimizer)
    return optimizer, progress


def by_rule(rule: str, rate: float, problems: Problems, steps: int) -> Tensor:
    """The losses ``[steps + 1, P]`` on the way of a plain optimiser."""
    theta = nn.Parameter(problems.start.clone())
    optimizer = RULES[rule]([theta], rate)
    path = []
    for step in range(steps + 1):
        losses, theta.grad = problems.at(theta, step)
        path.append(losses)
        optimizer.step()
    return torch.stack(path)


def tuned(rule: str, problems: Problems) -> float:
    """The rate of the least mean loss at the horizon."""

    def final(rate: float) -> float:
        found = float(by_rule(rule, rate, problems, STEPS)[-1].mean())
        return found if math.isfinite(found) else math.inf

    return min(RATES, key=final)


def figures(solve: Callable[[Problems, int], Tensor], setting: Setting) -> dict[str, Any]:
    """What a way of solving problems reaches on new ones."""
    found: dict[str, Any] = {}
    for which, larger, steps in (("usual", False, 2 * STEPS), ("larger", True, STEPS)):
        family = setting.family("test", larger)
        # A few problems at a time stay in the cache.
        paths = [
            solve(family(min(AT_ONCE, setting.compared - first), TEST_SEED + first), steps)
            for first in range(0, setting.compared, AT_ONCE)
        ]
        path = torch.cat(paths, dim=1).double()
        for step in (STEPS, 2 * STEPS)[: steps // STEPS]:
            found[f"{which} {step}"] = rounded(mean_and_interval(path[step]))
        found[f"{which} curve"] = rounded(path.mean(1)[::POINT_EVERY])
    return found


def rounded(numbers: Iterable[Tensor | float]) -> list[float | None]:
    """Five digits of each; nothing where a loss grew beyond all numbers."""
    return [float(f"{each:.5g}") if math.isfinite(each) else None for each in numbers]


def measure(name: str) -> dict[str, Any]:
    """Trains and tunes on one family, and compares on new problems of it."""
    setting = SETTINGS[name]
    optimizer, progress = trained(name)
    result: dict[str, Any] = {
        "seconds": round(progress["seconds"], 1),
        "batches": progress["batches"],
        "validation": progress["validation"],
        "rates": {},
        "optimizers": {
            LEARNED: figures(lambda problems, steps: optimize(optimizer, problems, steps), setting)
        },
    }
    known = setting.family("train", False)(setting.compared, TUNING_SEED)
    for rule in RULES:
        rate = tuned(rule, known)
        result["rates"][rule] = rate
        result["optimizers"][rule] = figures(functools.partial(by_rule, rule, rate), setting)
    return result


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Learned optimisers",
        "",
        "A coordinatewise LSTM that proposes the updates of an optimiser (Andrychowicz and others,",
        '2016, "Learning to learn by gradient descent by gradient descent"), trained on truncated',
        f"unrolls of {WINDOW} steps within {STEPS}, beside optimisers whose rates were chosen on",
        f"training problems, of {len(RATES)} from {RATES[0]:g} to {RATES[-1]:g}, by the mean loss",
        f"after {STEPS} steps. Mean loss with its 95 % interval over the same new problems",
        f"after {STEPS} steps, after twice as many as the optimiser was trained for, and after",
        f"{STEPS} on larger problems, with the same rates.",
        "`python benchmarks/learned_optimizers.py` repeats all of it.",
        "",
        f"![Mean loss over steps](images/{PLOT.name})",
    ]
    for name, result in results["families"].items():
        setting = SETTINGS[name]
        seconds, batches = result["seconds"], result["batches"]
        lines += [
            "",
            f"## {name.capitalize()}",
            "",
            f"Each problem: {setting.about}. Larger problems: {setting.larger}.",
            f"The optimiser learned from {batches} batches of {setting.problems} problems in"
            f" {seconds:.0f} s;",
            f"the best of {len(result['validation'])} stages on validation problems was kept.",
            f"Rates were chosen on {setting.compared} problems, and all were compared on as many.",
            "",
            f"| optimiser | rate | {STEPS} steps | {2 * STEPS} steps | larger, {STEPS} steps |",
            "| --- | --- | --- | --- | --- |",
        ]
        for each, found in result["optimizers"].items():
            rate = f"{result['rates'][each]:.2g}" if each in result["rates"] else "—"
            keys = (f"usual {STEPS}", f"usual {2 * STEPS}", f"larger {STEPS}")
            cells = [cell(*found[key]) for key in keys]
            lines.append(f"| {each} | {rate} | {' | '.join(cells)} |")
    lines += ["", f"Measured on {results['machine']}."]
    return "\n".join(lines) + "\n"


def cell(mean: float | None, error: float | None) -> str:
    """A mean with its interval."""
    if mean is None or error is None or mean > DIVERGED:
        return "diverges"
    return f"{mean:.3g} ± {error:.2g}"


def plot(results: dict[str, Any], file: Path) -> None:
    """Draws the mean loss over steps: a row a family, usual and larger problems beside each other.

    Args:
        results: as they are stored.
        file: the picture.
    """
    families = results["families"]
    figure = Figure(figsize=(9, 3.2 * len(families)), layout="constrained")
    grid = figure.subplots(len(families), 2, squeeze=False, sharey="row")
    for row, (name, result) in zip(grid, families.items(), strict=True):
        beginnings: list[float] = []
        for axes, which in zip(row, ("usual", "larger"), strict=True):
            for each, found in result["optimizers"].items():
                curve = [math.nan if point is None else point for point in found[f"{which} curve"]]
                steps = [POINT_EVERY * k for k in range(len(curve))]
                axes.plot(steps, curve, label=each, linewidth=2 if each == LEARNED else 1)
                beginnings.append(curve[0])
            if which == "usual":
                axes.axvline(STEPS, color="0.6", linestyle="--", linewidth=0.8)
            axes.set_yscale("log")
            larger = f", {SETTINGS[name].larger}" if which == "larger" else ""
            axes.set_title(f"{name}{larger}", fontsize=9)
            axes.set_xlabel("steps", fontsize=8)
            axes.tick_params(labelsize=7, which="both")
        row[0].set_ylabel("mean loss", fontsize=8)
        row[0].set_ylim(top=3 * max(beginnings))  # what diverges leaves the picture
    grid[0, 0].legend(fontsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    # The same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "quickstudy", "svg.fonttype": "path"}):
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Trains, measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page and its picture")
    parser.add_argument("names", nargs="*", help="by default all")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "families": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    for name in [] if options.table else options.names or SETTINGS:
        if name not in results["families"]:
            results["families"][name] = measure(name)
            PATH.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not results["families"]:
        raise SystemExit("There are no results yet.")
    results["families"] = {
        name: results["families"][name] for name in SETTINGS if name in results["families"]
    }
    plot(results, PLOT)
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
