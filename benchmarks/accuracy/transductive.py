"""Transductive strategies beside inductive ones, on balanced and on unbalanced queries.

All work on the features of one pretrained run, on the same test tasks, with the settings of
configs/cifar-fs. What is stored of the same run and settings is not measured again.

    python -m benchmarks accuracy/transductive runs/cifar-fs/baseline
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import percent
from benchmarks.common.machine import machine
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import EPISODES, digest, splits_of
from quickstudy.datasets import ClassDataset
from quickstudy.datasets.decoded.features import embed_examples, every_example
from quickstudy.episodes.sampler import QueryBalance
from quickstudy.evaluation import evaluate
from quickstudy.runs import load
from quickstudy.runs.run import checkpoint_file
from quickstudy.saving.description import described_class
from quickstudy.strategies import Strategy, TransductiveFineTuning
from quickstudy.strategies.bases.pretrained import CentredStrategy

CONFIGS = ROOT / "configs" / "cifar-fs"
NAMES = (
    "simple_shot",
    "logistic_regression",
    "transductive_fine_tuning",
    "tim",
    "laplacian_shot",
    "bd_cspn",
    "pt_map",
)
ALL_WEIGHTS = "transductive_fine_tuning, all weights"
SHOTS = (1, 5)
BALANCES: tuple[QueryBalance, ...] = ("balanced", "dirichlet")


class Features(nn.Identity):
    """Passes stored features through unchanged."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.out_features = size


def settings_of(name: str) -> dict[str, Any]:
    """The class and the arguments of a strategy's config."""
    described: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["strategy"]
    return described


def on_features(name: str, size: int, mean: Tensor) -> Strategy:
    """The strategy of a config, for features of length ``size`` with the given training mean."""
    described = settings_of(name)
    strategy = described_class(described)(
        encoder=Features(size), **described.get("init_args") or {}
    )
    assert isinstance(strategy, Strategy)
    if isinstance(strategy, CentredStrategy):
        strategy.running_mean.copy_(mean)
    return strategy


def training_mean(encoder: nn.Module, data: ClassDataset, most: int) -> tuple[Tensor, float]:
    """The mean feature ``[D]`` of ``most`` examples per class, and the seconds per example."""
    classes, positions = every_example(data.sizes)
    few = positions < most
    made = embed_examples(encoder, data, classes[few], positions[few], "cpu")
    return made.features.float().mean(0), made.seconds / len(made.features)


def reports_of(strategy: Strategy, data: ClassDataset, episodes: int) -> list[dict[str, Any]]:
    """The reports of evaluations, one for each number of shots and each balance."""
    return [
        evaluate(
            strategy,
            data,
            ways=5,
            shots=shots,
            episodes=episodes,
            query_balance=balance,
            progress=True,
        ).to_dict()
        for shots in SHOTS
        for balance in BALANCES
    ]


OPTIONS: dict[str, dict[str, Any]] = {
    "run": {"type": Path, "nargs": "?", "help": "a run of ordinary classification"},
    "--episodes": {"type": int, "default": EPISODES, "help": "number of test tasks"},
    "--all-weights": {
        "action": "store_true",
        "help": "also fine-tune all weights of the encoder, as the paper does; takes hours more",
    },
    "--most": {"type": int, "default": 100, "help": "images per class for the mean feature"},
    "--threads": {"type": int, "default": 1, "help": "number of threads"},
}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Evaluates what is missing on the encoder of the run.

    Raises:
        SystemExit: without a run.
    """
    if options.run is None:
        raise SystemExit("Give a run of ordinary classification, such as runs/cifar-fs/baseline.")
    torch.set_num_threads(options.threads)
    trained = load(options.run)
    encoder = trained.strategy.encoder
    assert isinstance(encoder, nn.Module)
    about = {
        "checkpoint_digest": digest(checkpoint_file(options.run).read_bytes()),
        "data": trained.config["data"],
        "encoder": type(encoder).__name__,
        "training_seconds": round(trained.progress["seconds"], 1),
        "steps": trained.progress["step"],
        "episodes": options.episodes,
    }
    if not about.items() <= results.items():  # another run
        results.clear()
        results.update({**about, "rows": {}})
    splits = splits_of(trained)
    mean, results["image_seconds"] = training_mean(encoder, splits["train"], options.most)
    features = splits["test"].embed(encoder)

    def row(
        name: str, settings: dict[str, Any], make: Callable[[], Strategy], data: ClassDataset
    ) -> None:
        if results["rows"].get(name, {}).get("settings") != settings:
            strategy = make()
            found = {
                "strategy": type(strategy).__name__,
                "settings": settings,
                "machine": machine(),
                "reports": reports_of(strategy, data, options.episodes),
            }
            results.keep("rows", name, found)

    for name in NAMES:
        make = functools.partial(on_features, name, len(mean), mean)
        row(name, settings_of(name), make, features)
    if options.all_weights:
        row(ALL_WEIGHTS, {}, lambda: TransductiveFineTuning(encoder), splits["test"])


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    ranking = sorted(
        results["rows"].items(),
        key=lambda item: (
            item[1]["reports"][0]["transductive"],
            -item[1]["reports"][0]["accuracy"]["mean"],
        ),
    )
    rows = []
    for name, found in ranking:
        first = found["reports"][0]
        title = f"[{found['strategy']}](../configs/cifar-fs/{name}.yaml)"
        if name == ALL_WEIGHTS:
            title = f"{found['strategy']}, all weights (time with encoding)"
        accuracies = (percent(report["accuracy"], 2) for report in found["reports"])
        answers = "transductive" if first["transductive"] else "inductive"
        seconds = first["adapt_seconds"] + first["predict_seconds"]
        rows.append([title, *accuracies, answers, f"{1000 * seconds:.2f} ms"])
    kinds = [f"{shots}-shot {kind}" for shots in SHOTS for kind in ("balanced", "unbalanced")]
    pages.splice(
        "docs/transductive.md",
        "transductive",
        table(["strategy", *kinds, "predictions", "time"], rows),
        f"The features come from {results['encoder']}, trained by ordinary classification on the "
        f"training classes of {results['data']} ({results['training_seconds']:.0f} s, "
        f"{results['steps']} steps); encoding an image takes {1000 * results['image_seconds']:.2f} "
        "ms.",
        pages.measured_on(row["machine"] for row in results["rows"].values()),
    )


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/transductive.md",),
    "half an hour on one core, once there is a run",
    options=OPTIONS,
)
