"""Regression of sine waves from a few points: every strategy that learns numbers.

Trains each strategy on waves with 5 and with 10 points, measures the mean squared error on test
waves after 0, 1, 5 and 10 inner steps, and writes docs/sinusoids.md from
benchmarks/results/sinusoids.json. What is there is not done twice.

    python benchmarks/sinusoids.py [--table] [NAME ...]
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable
from typing import Any, get_args

import torch
from results import RESULTS, ROOT, machine

import quickstudy as qs
from quickstudy.episodes import Episode, Sinusoids
from quickstudy.evaluation.outcomes import mean_and_interval
from quickstudy.strategies import Strategy
from quickstudy.strategies.bases.set_networks import StrategyNetwork

PATH = RESULTS / "sinusoids.json"
PAGE = ROOT / "docs" / "sinusoids.md"
SHOTS = (5, 10)
STEPS = (0, 1, 5, 10)
TASKS, TRAINING_STEPS = 25, 30_000
FEWER_STEPS = {
    "IMAML": 1000,
    "MAMLPlusPlus": 10_000,
    "Reptile": 5000,
    "WholeHypernetwork": 5000,
}
"""Of strategies whose meta-batches take far longer."""
LEARNING_RATE = 0.006
"""The largest of 0.003, 0.006 and 0.012 that made MAML better, on waves that are not tested on."""
SMALLER_RATES = {
    "IMAML": 0.003,
    "MAMLPlusPlus": 0.001,
    "ConditionalNeuralProcess": 0.001,
    "WholeHypernetwork": 0.001,
}
"""Of strategies that diverge with that one, or learn nothing."""
TEST_TASKS, TEST_POINTS, TEST_SEED = 1000, 100, 1


def network() -> qs.encoders.MLP:
    """The paper's network: two hidden layers of 40 units, normalisation none."""
    return qs.encoders.MLP((1,), hidden=(40, 40))


def whole_hypernetwork(kind: StrategyNetwork) -> qs.strategies.WholeHypernetwork:
    """A strategy network of this kind, which emits all weights of the paper's network."""
    return qs.strategies.WholeHypernetwork(
        network(), network(), strategy_network=kind, target_size=1
    )


GRADIENT: dict[str, Any] = {"ways": 1, "inner_learning_rate": 0.01}
"""The paper's inner rate, for all whose rate means the same."""

MAKE: dict[str, Callable[[], Strategy]] = {
    "MAML": lambda: qs.strategies.MAML(network(), **GRADIENT),
    "FOMAML": lambda: qs.strategies.FOMAML(network(), **GRADIENT),
    "Reptile": lambda: qs.strategies.Reptile(
        network(), ways=1, inner_steps=32, inner_learning_rate=0.01, inner_optimizer="sgd"
    ),
    "ANIL": lambda: qs.strategies.ANIL(network(), **GRADIENT),
    "BOIL": lambda: qs.strategies.BOIL(network(), **GRADIENT),
    "MetaSGD": lambda: qs.strategies.MetaSGD(
        network(), ways=1, least_inner_rate=0.005, most_inner_rate=0.01
    ),
    # Inner rates that are learned as fast as φ leave all bounds here.
    "MAMLPlusPlus": lambda: qs.strategies.MAMLPlusPlus(
        network(), **GRADIENT, inner_steps=5, first_order_passes=2500, learn_inner_rates=False
    ),
    "IMAML": lambda: qs.strategies.IMAML(
        network(), ways=1, inner_learning_rate=0.01, proximity=0.5
    ),
    # As in the paper: five context parameters beside the input.
    "CAVIA": lambda: qs.strategies.CAVIA(
        network(), ways=1, context=5, conditioning="concatenation", layers=[0], inner_steps=1
    ),
    "MetaCurvature": lambda: qs.strategies.MetaCurvature(network(), **GRADIENT),
    "TNet": lambda: qs.strategies.TNet(network(), **GRADIENT),
    "R2D2": lambda: qs.strategies.R2D2(network()),
    "ConditionalNeuralProcess": lambda: qs.strategies.ConditionalNeuralProcess(
        network(), target_size=1
    ),
    # Nothing is drawn without the latent path, so that the tasks of a step run in one call.
    "AttentiveNeuralProcess": lambda: qs.strategies.AttentiveNeuralProcess(
        network(), target_size=1, latent=False
    ),
    **{
        f"WholeHypernetwork-{kind}": functools.partial(whole_hypernetwork, kind)
        for kind in get_args(StrategyNetwork)
    },
}


def errors(strategy: Strategy, episode: Episode) -> tuple[float, float]:
    """The mean squared error over tasks and the half-width of its 95 % interval."""
    strategy.eval()
    with torch.no_grad():
        found = strategy(episode)
    each = (found - episode.query.targets).square().mean((1, 2))
    return mean_and_interval(each)


def measure(name: str, shots: int) -> dict[str, Any]:
    """Trains one strategy on waves of so many points and tests it."""
    torch.manual_seed(0)
    strategy = MAKE[name]()
    tasks = Sinusoids(shots=shots, queries=10, tasks=TASKS)
    run = qs.fit(
        strategy,
        tasks,
        tasks=TASKS,
        steps=FEWER_STEPS.get(name.partition("-")[0], TRAINING_STEPS),
        learning_rate=SMALLER_RATES.get(name.partition("-")[0], LEARNING_RATE),
        schedule="cosine",
        log_every=1000,
        out=ROOT / "runs" / "sinusoids" / f"{name}-{shots}",
        resume=(ROOT / "runs" / "sinusoids" / f"{name}-{shots}" / "config.yaml").exists(),
    )
    if not run.progress["finished"]:
        raise SystemExit("Stopped; it goes on from here when called again.")
    test = Sinusoids(shots, TEST_POINTS, TEST_TASKS, TEST_SEED).episode(0)
    found: dict[str, Any] = {
        "seconds": round(run.progress["seconds"], 1),
        "machine": machine(),
        "errors": {},
    }
    for steps in STEPS if hasattr(strategy, "test_inner_steps") else (None,):
        if steps is not None:
            strategy.test_inner_steps = steps  # type: ignore[assignment]
        found["errors"][str(steps)] = errors(strategy, test)
    return found


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Regression: sine waves",
        "",
        "Each task is a wave y = A sin(x − b) seen at 5 or 10 points (Finn, Abbeel, Levine, 2017,",
        f"section 5.1). Mean squared error with its 95 % interval on {TEST_TASKS} test waves of",
        f"{TEST_POINTS} points, after so many inner steps; what takes no inner steps has one",
        "figure. Network: two hidden layers of 40 units. Training:",
        f"{TRAINING_STEPS:,} meta-batches of {TASKS} tasks, or as many as the table says, with",
        f"Adam at {LEARNING_RATE} falling along a cosine, or at",
        ", ".join(f"{rate} ({name})" for name, rate in SMALLER_RATES.items()) + ".",
        "Most train with one inner step; where what they learned, taken more often, leaves all",
        "bounds, the table says so. MAMLPlusPlus has fixed inner rates: learned ones diverge.",
        "`python benchmarks/sinusoids.py` repeats all of it.",
    ]
    for shots in SHOTS:
        lines += ["", f"## {shots} points", ""]
        lines += [f"| strategy | {' | '.join(f'{s} steps' for s in STEPS)} | training |"]
        lines += [f"| --- |{' --- |' * (len(STEPS) + 1)}"]
        for name in MAKE:
            found = results["strategies"].get(f"{name}-{shots}")
            if found:
                cells = [_cell(found["errors"], steps) for steps in STEPS]
                steps = FEWER_STEPS.get(name.partition("-")[0], TRAINING_STEPS)
                cells.append(f"{found['seconds']:.0f} s, {steps:,} meta-batches")
                lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "## What is not known",
        "",
        "Neural processes also say how sure they are. A wave that an attentive one never saw, seen",
        "at 1, 5 and 10 points (dots): its mean, two standard deviations to both sides, and the",
        "truth (dashed). `python examples/uncertainty.py --steps 6000 --out",
        "docs/images/uncertainty.svg` draws it, and counts how often the truth lies inside.",
        "",
        "![Three pictures of a wave with a band that narrows](images/uncertainty.svg)",
    ]
    machines = sorted({found["machine"] for found in results["strategies"].values()})
    lines += ["", f"Measured on {'; '.join(machines)}."]
    return "\n".join(lines) + "\n"


def _cell(errors: dict[str, list[float]], steps: int) -> str:
    found = errors.get(str(steps)) or (errors.get("None") if steps == STEPS[1] else None)
    if not found:
        return "—"
    return f"{found[0]:.3f} ± {found[1]:.3f}" if math.isfinite(found[0]) else "diverges"


def main() -> None:
    """Trains, measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("names", nargs="*", help="by default all")
    options = parser.parse_args()
    results: dict[str, Any] = {"strategies": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    for name in [] if options.table else options.names or MAKE:
        for shots in SHOTS:
            if f"{name}-{shots}" not in results["strategies"]:
                results["strategies"][f"{name}-{shots}"] = measure(name, shots)
                PATH.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
                PAGE.write_text(page(results), encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
