"""Transductive strategies beside inductive ones, on balanced and on unbalanced queries.

All work on the features of one pretrained run, on the same test tasks. The settings of each are
those of configs/cifar-fs. Writes benchmarks/results/transductive.json and docs/transductive.md;
what was measured of the same run and settings is not measured again.

    QUICKSTUDY_DATA=folder python benchmarks/transductive.py runs/cifar-fs/baseline
    python benchmarks/transductive.py --table

With --all_weights it also fine-tunes all weights of the encoder transductively, as the paper does:
seconds a task where the others take milliseconds.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from results import EPISODES, RESULTS, ROOT, machine, percent
from torch import Tensor, nn

from quickstudy.cli.options import parse_split
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.datasets.decoded.features import embed_examples, every_example
from quickstudy.episodes.sampler import QueryBalance
from quickstudy.evaluation import evaluate
from quickstudy.runs import load
from quickstudy.runs.run import Run, checkpoint_file
from quickstudy.saving.description import described_class
from quickstudy.saving.files import write_text_atomically
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

INTRODUCTION = """# Transductive strategies

A transductive strategy looks at all queries of a task before it answers any. Here all strategies
work on the same features: {encoder} after ordinary classification of the training classes of
{data} ({training:.0f} s, {steps} steps). 5 ways, {episodes} test tasks (seed {seed}) of {total}
queries. *Balanced* tasks have {queries} queries of each class. In *unbalanced* ones the classes
have unequal numbers of queries: their shares are drawn from a Dirichlet distribution with α = 2
(Veilleux, Boudiaf, Piantanida, Ben Ayed, "Realistic Evaluation of Transductive Few-Shot Learning",
NeurIPS 2021). Both have the same classes and the same support, task by task.

Inductive strategies answer each query by itself, so the spread of the queries hardly moves them.
What TIM and PT-MAP lose from one column to the next is what they had from taking for granted that
tasks are balanced.

Accuracy in % with its 95 % confidence interval; *time*: adapting and predicting a task of 1 shot,
features being there (encoding an image takes {image:.2f} ms). Written by
`python benchmarks/transductive.py`.
"""


class Features(nn.Identity):
    """Features that an encoder made, as they are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.out_features = size


def settings_of(name: str) -> dict[str, Any]:
    """The class and the arguments of a strategy's config."""
    described: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["strategy"]
    return described


def on_features(name: str, size: int, mean: Tensor) -> Strategy:
    """The strategy of a config, for features of ``size`` numbers whose training mean is given."""
    described = settings_of(name)
    strategy = described_class(described)(
        encoder=Features(size), **described.get("init_args") or {}
    )
    assert isinstance(strategy, Strategy)
    if isinstance(strategy, CentredStrategy):
        strategy.running_mean.copy_(mean)
    return strategy


def training_mean(encoder: nn.Module, data: ClassDataset, most: int) -> tuple[Tensor, float]:
    """The mean feature ``[D]`` of ``most`` examples a class, and the seconds of an example."""
    classes, positions = every_example(data.sizes)
    few = positions < most
    made = embed_examples(encoder, data, classes[few], positions[few], "cpu")
    return made.features.float().mean(0), made.seconds / len(made.features)


def reports_of(strategy: Strategy, data: ClassDataset, episodes: int) -> list[dict[str, Any]]:
    """What evaluations found, one for each number of shots and each balance."""
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


def measure(run: Path, path: Path, episodes: int, all_weights: bool, most: int) -> None:
    """Evaluates all strategies on the encoder of ``run``, and stores what was found in ``path``."""
    trained = load(run)
    encoder = trained.strategy.encoder
    assert isinstance(encoder, nn.Module)
    options = trained.config
    data = load_dataset(options["data"], rotations=options["rotations"], inputs=trained.inputs)
    parts = data.split(parse_split(options["split"]), seed=options["split_seed"])
    mean, seconds = training_mean(encoder, parts["train"], most)
    features = parts["test"].embed(encoder)
    result = _begun(path, run, trained, episodes) | {"image_seconds": seconds}

    def row(
        name: str, settings: dict[str, Any], make: Callable[[], Strategy], data: ClassDataset
    ) -> None:
        done = result["rows"].get(name)
        if done and done["settings"] == settings:
            return
        strategy = make()
        result["rows"][name] = {
            "strategy": type(strategy).__name__,
            "settings": settings,
            "machine": machine(),
            "reports": reports_of(strategy, data, episodes),
        }
        write_text_atomically(path, json.dumps(result, indent=2) + "\n")

    for name in NAMES:
        make = functools.partial(on_features, name, len(mean), mean)
        row(name, settings_of(name), make, features)
    if all_weights:
        row(ALL_WEIGHTS, {}, lambda: TransductiveFineTuning(encoder), parts["test"])


def _begun(path: Path, run: Path, trained: Run, episodes: int) -> dict[str, Any]:
    """What ``path`` holds, if it is of this run and as many episodes; else a beginning."""
    digest = hashlib.sha256(checkpoint_file(run).read_bytes()).hexdigest()[:16]
    about = {
        "checkpoint_digest": digest,
        "data": trained.config["data"],
        "encoder": type(trained.strategy.encoder).__name__,
        "training_seconds": round(trained.progress["seconds"], 1),
        "steps": trained.progress["step"],
        "episodes": episodes,
    }
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text())
        if about.items() <= stored.items():
            return stored
    return {**about, "rows": {}}


def page(result: dict[str, Any]) -> str:
    """The Markdown page: inductive strategies first, each kind best at one balanced shot first."""
    rows = result["rows"]
    some = next(iter(rows.values()))["reports"][0]
    lines = [
        INTRODUCTION.format(
            encoder=result["encoder"],
            data=result["data"],
            training=result["training_seconds"],
            steps=result["steps"],
            episodes=result["episodes"],
            seed=some["seed"],
            queries=some["queries"],
            total=some["ways"] * some["queries"],
            image=1000 * result["image_seconds"],
        ),
        "| strategy | 1-shot balanced | 1-shot unbalanced | 5-shot balanced | 5-shot unbalanced "
        "| predictions | time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ranking = sorted(
        rows.items(),
        key=lambda item: (
            item[1]["reports"][0]["transductive"],
            -item[1]["reports"][0]["accuracy"]["mean"],
        ),
    )
    for name, row in ranking:
        reports = row["reports"]
        first = reports[0]
        if name == ALL_WEIGHTS:
            title = f"{row['strategy']}, all weights (time with encoding)"
        else:
            title = f"[{row['strategy']}](../configs/cifar-fs/{name}.yaml)"
        cells = [title, *(percent(report["accuracy"], 2) for report in reports)]
        cells.append("transductive" if first["transductive"] else "inductive")
        cells.append(f"{1000 * (first['adapt_seconds'] + first['predict_seconds']):.2f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    machines = sorted({row["machine"] for row in rows.values()})
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}.", ""])


def main() -> None:
    """Evaluates what is still missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="a run that learned by classification")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--all_weights", action="store_true", help="hours more")
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument(
        "--most",
        type=int,
        default=100,
        help="images per class for the mean that features are centred by",
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch, for comparable times")
    parser.add_argument("--json", type=Path, default=RESULTS / "transductive.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "transductive.md")
    options = parser.parse_args()
    if not options.table:
        if options.run is None:
            raise SystemExit("Name a run, e.g. runs/cifar-fs/baseline.")
        torch.set_num_threads(options.threads)
        measure(options.run, options.json, options.episodes, options.all_weights, options.most)
    options.page.write_text(page(json.loads(options.json.read_text())), encoding="utf-8")
    print(f"Written to {options.json} and {options.page}.")


if __name__ == "__main__":
    main()
