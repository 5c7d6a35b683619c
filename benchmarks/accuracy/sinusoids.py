"""Regression of sine waves from a few points: every strategy that can learn numbers.

Trains each strategy on waves with 5 and with 10 points, and measures the mean squared error on test
waves after 0, 1, 5 and 10 inner steps. A stopped run is resumed; what is stored is not measured
again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, get_args

import torch

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import mean_and_interval
from benchmarks.common.machine import machine
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import fitted
from quickstudy.episodes import Episode, Sinusoids
from quickstudy.strategies import Strategy
from quickstudy.strategies.bases.set_networks import StrategyNetwork

SHOTS = (5, 10)
STEPS = (0, 1, 5, 10)
TASKS, TRAINING_STEPS = 25, 30_000
FEWER_STEPS = {
    "IMAML": 1000,
    "MAMLPlusPlus": 10_000,
    "Reptile": 5000,
    "WholeHypernetwork": 5000,
}
"""Training steps of strategies whose meta-batches take far longer."""
LEARNING_RATE = 0.006
"""Chosen from 0.003, 0.006 and 0.012 by MAML's error on waves that are not test waves."""
SMALLER_RATES = {
    "IMAML": 0.003,
    "MAMLPlusPlus": 0.001,
    "ConditionalNeuralProcess": 0.001,
    "WholeHypernetwork": 0.001,
}
"""Learning rates of strategies that diverge or learn nothing with the common one."""
TEST_TASKS, TEST_POINTS, TEST_SEED = 1000, 100, 1


def network() -> qs.encoders.MLP:
    """The paper's network: two hidden layers of 40 units without normalisation."""
    return qs.encoders.MLP((1,), hidden=(40, 40))


def whole_hypernetwork(kind: StrategyNetwork) -> qs.strategies.WholeHypernetwork:
    """A strategy network of this kind that emits all weights of the paper's network."""
    return qs.strategies.WholeHypernetwork(
        network(), network(), strategy_network=kind, target_size=1
    )


GRADIENT: dict[str, Any] = {"ways": 1, "inner_learning_rate": 0.01}
"""The paper's inner learning rate, for all strategies in which it means the same."""

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
    # Inner rates that are learned as fast as φ diverge here.
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


def trained(name: str, shots: int) -> dict[str, Any]:
    """Trains one strategy on waves with ``shots`` points and tests it."""
    torch.manual_seed(0)
    strategy = MAKE[name]()
    run = fitted(
        strategy,
        Sinusoids(shots=shots, queries=10, tasks=TASKS),
        ROOT / "runs" / "sinusoids" / f"{name}-{shots}",
        tasks=TASKS,
        steps=FEWER_STEPS.get(name.partition("-")[0], TRAINING_STEPS),
        learning_rate=SMALLER_RATES.get(name.partition("-")[0], LEARNING_RATE),
        schedule="cosine",
        log_every=1000,
    )
    test = Sinusoids(shots, TEST_POINTS, TEST_TASKS, TEST_SEED).episode(0)
    found = {}
    for steps in STEPS if hasattr(strategy, "test_inner_steps") else (None,):
        if steps is not None:
            strategy.test_inner_steps = steps  # type: ignore[assignment]
        found[str(steps)] = errors(strategy, test)
    seconds = round(run.progress["seconds"], 1)
    return {"seconds": seconds, "machine": machine(), "errors": found}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains what is missing."""
    wanted = itertools.product(options.names or MAKE, SHOTS)
    keys = {f"{name}-{shots}": (name, shots) for name, shots in wanted}
    for key in results.missing("strategies", keys):
        results.keep("strategies", key, trained(*keys[key]))


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    columns = ["strategy", *(f"{steps} steps" for steps in STEPS), "training"]
    tables: list[str] = []
    for shots in SHOTS:
        rows = []
        for name in MAKE:
            if found := results["strategies"].get(f"{name}-{shots}"):
                steps = FEWER_STEPS.get(name.partition("-")[0], TRAINING_STEPS)
                cells = [_cell(found["errors"], each) for each in STEPS]
                rows.append([name, *cells, f"{found['seconds']:.0f} s, {steps:,} meta-batches"])
        tables += [f"## {shots} points", table(columns, rows)]
    machines = (found["machine"] for found in results["strategies"].values())
    pages.splice("docs/sinusoids.md", "sinusoids", *tables, pages.measured_on(machines))


def _cell(errors: dict[str, list[float]], steps: int) -> str:
    found = errors.get(str(steps)) or (errors.get("None") if steps == STEPS[1] else None)
    if not found:
        return "—"
    return f"{found[0]:.3f} ± {found[1]:.3f}" if math.isfinite(found[0]) else "diverges"


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/sinusoids.md",),
    "about three hours on two cores",
    start={"strategies": {}},
    options={"names": {"nargs": "*", "help": "strategies to train; by default all"}},
)
