"""Learned optimisers beside SGD, momentum, RMSprop and Adam: quadratics and small classifiers.

Trains an optimiser for each family of problems, tunes the learning rates of the others on training
problems, and compares all on new problems: at the horizon of the training, at twice the horizon,
and on larger problems. A stopped training is resumed; what is stored is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import mean_and_interval
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
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

PLOT = "images/learned-optimizers.svg"
RUNS = ROOT / "runs" / "learned_optimizers"

STEPS, WINDOW = 100, 20
AT_ONCE = 25
VALIDATION_SEED, TEST_SEED, TUNING_SEED = 10**6, 2 * 10**6, 3 * 10**6
RATES = [10 ** (k / 4) for k in range(-16, 5)]
POINT_EVERY = 5
DIVERGED = 1e6
"""A mean loss above this, which began at ten or twenty, is shown as diverged."""
LEARNED = "learned"

RULES: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "SGD": lambda theta, rate: torch.optim.SGD(theta, rate),
    "momentum": lambda theta, rate: torch.optim.SGD(theta, rate, momentum=0.9),
    "RMSprop": lambda theta, rate: torch.optim.RMSprop(theta, rate),
    "Adam": lambda theta, rate: torch.optim.Adam(theta, rate),
}


@functools.cache
def characters(split: str) -> Tensor:
    """The characters of a split of Omniglot, 20 images of 14x14 for each: ``[C, 20, 196]``."""
    data = qs.load_dataset("omniglot", rotations=False).split("vinyals")[split]
    each = int(data.sizes.min())
    classes = torch.arange(data.classes)[:, None].expand(-1, each)
    images = data.gather(classes, torch.arange(each).expand(data.classes, -1))
    return F.avg_pool2d(images.flatten(0, 1), 2).view(data.classes, each, -1)


@dataclass(frozen=True)
class Setting:
    """A family of problems, and how an optimiser learns from it.

    Args:
        family: the problems of a split of the data, of the usual size or larger.
        about: the problems in words.
        larger: the larger problems in words.
        batches: number of batches of problems to learn from.
        problems: number of problems per batch.
        learning_rate: Adam's initial learning rate, which falls to zero along a cosine.
        validate_every: number of batches between validations.
        compared: number of problems to tune learning rates on, and of new ones to compare on. The
            losses of quadratics vary widely, so these are many.
    """

    family: Callable[[str, bool], Family]
    about: str
    larger: str
    batches: int
    problems: int
    learning_rate: float
    validate_every: int
    compared: int


def of_quadratics(split: str, larger: bool) -> Family:
    """All splits are alike and differ by their seeds."""
    return functools.partial(quadratics, coordinates=20 if larger else 10)


def of_classifiers(split: str, larger: bool) -> Family:
    """Networks on characters of the split."""
    return functools.partial(classifiers, characters(split), hidden=40 if larger else 20)


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
    """The losses ``[steps + 1, P]`` along the path of a plain optimiser."""
    theta = nn.Parameter(problems.start.clone())
    optimizer = RULES[rule]([theta], rate)
    path = []
    for step in range(steps + 1):
        losses, theta.grad = problems.at(theta, step)
        path.append(losses)
        optimizer.step()
    return torch.stack(path)


def tuned(rule: str, problems: Problems) -> float:
    """The learning rate with the lowest mean loss at the horizon."""

    def final(rate: float) -> float:
        found = float(by_rule(rule, rate, problems, STEPS)[-1].mean())
        return found if math.isfinite(found) else math.inf

    return min(RATES, key=final)


def figures(solve: Callable[[Problems, int], Tensor], setting: Setting) -> dict[str, Any]:
    """The losses that an optimiser reaches on new problems."""
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
    """Five digits of each; None where a loss overflowed."""
    return [float(f"{each:.5g}") if math.isfinite(each) else None for each in numbers]


def compared(name: str) -> dict[str, Any]:
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


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains, tunes and compares on what is missing."""
    for name in results.missing("families", options.names or SETTINGS):
        results.keep("families", name, compared(name))


def write(results: Results, pages: Pages) -> None:
    """Writes the page and its picture."""
    families = {name: results["families"][name] for name in SETTINGS if name in results["families"]}
    pages.draw(f"docs/{PLOT}", plot(families))
    keys = (f"usual {STEPS}", f"usual {2 * STEPS}", f"larger {STEPS}")
    head = [
        "optimiser",
        "rate",
        *(f"{n} steps" for n in (STEPS, 2 * STEPS)),
        f"larger, {STEPS} steps",
    ]
    blocks: list[str] = []
    for name, result in families.items():
        setting = SETTINGS[name]
        rows = [
            [
                each,
                f"{result['rates'][each]:.2g}" if each in result["rates"] else "—",
                *(cell(*found[key]) for key in keys),
            ]
            for each, found in result["optimizers"].items()
        ]
        blocks += [
            f"## {name.capitalize()}",
            f"Each problem is {setting.about}. Larger problems have {setting.larger}. The "
            f"optimiser learned from {result['batches']} batches of {setting.problems} problems "
            f"in {result['seconds']:.0f} s; the best of {len(result['validation'])} stages on "
            f"validation problems was kept. Learning rates were chosen on {setting.compared} "
            "problems, and all optimisers were compared on as many.",
            table(head, rows),
        ]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/learned_optimizers.md", "learned_optimizers", *blocks, measured)


def cell(mean: float | None, error: float | None) -> str:
    """A mean with its interval."""
    if mean is None or error is None or mean > DIVERGED:
        return "diverges"
    return f"{mean:.3g} ± {error:.2g}"


def plot(families: dict[str, Any]) -> Figure:
    """Draws the mean loss over steps, one row per family, with larger problems on the right."""
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
        row[0].set_ylim(top=3 * max(beginnings))  # curves that diverge leave the picture
    grid[0, 0].legend(fontsize=7)
    return figure


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/learned_optimizers.md", f"docs/{PLOT}"),
    "half an hour on two cores",
    start={"families": {}},
    options={"names": {"nargs": "*", "help": f"of {', '.join(SETTINGS)}; by default all"}},
)
