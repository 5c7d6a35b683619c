"""Many learning algorithms on a mixture of data sets: a portfolio beside each of its members.

Tasks come from Omniglot, CIFAR-FS and the intents of BANKING77 and CLINC150, of 2 to 20 ways and 1
to 20 shots. Every strategy is meta-trained on the same tasks for the same number of steps, from the
same initial encoder, on features that are computed once. A stopped run is resumed; what is stored
is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import re
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import INTENTS, data_folder
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import fitted
from quickstudy.episodes import Mixture
from quickstudy.inputs import FeatureInputs
from quickstudy.strategies import Strategy

DATA = ("omniglot", "cifar-fs", "text")
WAYS, SHOTS, QUERIES = (2, 5, 20), (1, 5, 20), 5
TRAINING_WAYS, TRAINING_SHOTS = (2, 5, 10, 20), (1, 2, 5, 10, 15, 20)
SIZE = 256
"""Length of the feature vectors of every data set."""
BUCKETS = 2**14
"""Number of buckets for hashed n-grams."""


@dataclass(frozen=True)
class Cost:
    """How much is computed.

    Args:
        encoder_steps: training steps of each of the two image encoders.
        steps: training steps of each strategy.
        tasks: tasks per step.
        episodes: test episodes per cell of the table.
        classes: most classes to use of each split of a data set.
        runs: the folder for runs and features.
    """

    encoder_steps: int = 4000
    steps: int = 4000
    tasks: int = 4
    episodes: int = 400
    classes: int | None = None
    runs: Path = ROOT / "runs" / "mixture"


SMOKE = Cost(2, 3, 2, 4, 24, ROOT / "runs" / "mixture-smoke")


def encoder() -> qs.encoders.MLP:
    """The encoder that every strategy learns on top of the features."""
    return qs.encoders.MLP((SIZE,), hidden=(512,))


MEMBERS = ("prototypes", "ridge", "neighbors", "gradient")
MAKE: dict[str, Callable[[], Strategy]] = {
    "Portfolio": lambda: qs.strategies.Portfolio(encoder()),
    "InContextLearner": lambda: qs.strategies.InContextLearner(encoder()),
    **{
        f"only {name}": lambda name=name: qs.strategies.Portfolio(encoder(), (name,))  # type: ignore[misc]
        for name in MEMBERS
    },
    "PrototypicalNetwork": lambda: qs.strategies.PrototypicalNetwork(encoder()),
    "R2D2": lambda: qs.strategies.R2D2(encoder()),
    "NearestNeighbor": qs.strategies.NearestNeighbor,  # on the features themselves
}


# --- data ---


def features(cost: Cost, name: str) -> dict[str, qs.ClassDataset]:
    """The training and test classes of a data set, as features of one size and length."""
    splits = texts() if name == "text" else qs.load_dataset(name).split()
    if cost.classes is not None:
        splits = {
            split: data.select(range(min(cost.classes, data.classes)))
            for split, data in splits.items()
        }
    path = cost.runs / f"{name}.safetensors"
    if not path.exists():
        network = NGrams(splits["train"]) if name == "text" else image_encoder(cost, name, splits)
        made = {split: splits[split].embed(network).examples for split in ("train", "test")}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({split: of_one_size(each) for split, each in made.items()}, path)
    return {
        split: replace(
            splits[split],
            examples=examples,
            starts=splits[split].sizes.cumsum(0) - splits[split].sizes,
            inputs=FeatureInputs(SIZE),
        )
        for split, examples in load_file(path).items()
    }


def of_one_size(vectors: Tensor) -> Tensor:
    """Vectors ``[n, D]`` as ``[n, SIZE]``, with angles kept as far as that size allows.

    All have the norm of a vector of ones, the scale that a network's first layer expects.
    """
    if vectors.shape[1] != SIZE:
        vectors = vectors @ projection(vectors.shape[1])
    return SIZE**0.5 * nn.functional.normalize(vectors)


def projection(size: int) -> Tensor:
    """A random map ``[size, SIZE]`` with orthonormal rows or columns, whichever are fewer."""
    generator = torch.Generator().manual_seed(size)
    shape = max(size, SIZE), min(size, SIZE)
    orthonormal = torch.linalg.qr(torch.randn(shape, generator=generator))[0]
    return orthonormal if size >= SIZE else orthonormal.T.contiguous()


def image_encoder(cost: Cost, name: str, splits: dict[str, qs.ClassDataset]) -> qs.encoders.Conv4:
    """A Conv4 trained on the training classes."""
    train = splits["train"]
    torch.manual_seed(0)
    images = qs.encoders.Conv4(tuple(train.shape))
    if name == "omniglot":
        learner: Strategy = qs.strategies.PrototypicalNetwork(images)
        settings = {"ways": min(30, train.classes), "queries": 5}
    else:
        learner = qs.strategies.Baseline(images, classes=train.classes)
        settings = {"batch_size": 64}
    trained(cost, learner, train, f"{name}-encoder", cost.encoder_steps, **settings)
    return images


def texts() -> dict[str, qs.ClassDataset]:
    """The intents of all text data sets, by split; an example is the index of its text."""
    found = read_texts()
    splits = {}
    for split in ("train", "test"):
        numbers = [number for number, each in enumerate(found) if each[2] == split]
        labels = [found[number][1] for number in numbers]
        examples = torch.tensor(numbers, dtype=torch.float32)[:, None]
        splits[split] = qs.ClassDataset.from_arrays(examples, labels, FeatureInputs(1), "text")
    return splits


@functools.cache
def read_texts() -> list[tuple[str, str, str]]:
    """Every text with its class and the split (train, validation or test) of the class."""
    import datasets

    datasets.disable_progress_bars()
    found = []
    for name, column in INTENTS.items():
        folder = data_folder(name)
        split = next(iter(json.loads((folder / "class_splits.json").read_text()).values()))
        split_of = {label: each for each, labels in split.items() for label in labels}
        files = [str(f) for f in sorted(folder.glob("*.parquet")) if f.stem != "out_of_scope"]
        with tempfile.TemporaryDirectory() as cache:
            table = datasets.load_dataset("parquet", data_files=files, cache_dir=cache)["train"]
            names = getattr(table.features[column], "names", None)
            for text, label in zip(table["text"], table[column], strict=True):
                label = names[label] if names else label
                found.append((text, f"{name}: {label}", split_of[label]))
    return found


class NGrams(nn.Module):
    """From indices ``[B, 1]`` of texts to hashed n-grams ``[B, SIZE]``; rare ones weigh more.

    Args:
        train: the texts in which n-grams are counted.
    """

    def __init__(self, train: qs.ClassDataset) -> None:
        super().__init__()
        self.grams = [n_grams(text) for text, _, _ in read_texts()]
        frequency = torch.zeros(BUCKETS)
        for number in train.examples[:, 0].int().tolist():
            frequency[list({bucket for bucket, _ in self.grams[number]})] += 1
        self.weights = ((1 + len(train.examples)) / (1 + frequency)).log() + 1
        self.down = projection(BUCKETS)

    def forward(self, numbers: Tensor) -> Tensor:
        """Projected counts, of any norm."""
        counts = torch.zeros(len(numbers), BUCKETS)
        for row, number in zip(counts, numbers[:, 0].int().tolist(), strict=True):
            for bucket, sign in self.grams[number]:
                row[bucket] += sign
        return counts.sign() * counts.abs().log1p() * self.weights @ self.down


def n_grams(text: str) -> list[tuple[int, int]]:
    """The bucket and sign of each word, pair of words and three or four letters of a text."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    found = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    for word in words:
        padded = f"<{word}>"
        for size in (3, 4):
            found += [f"#{padded[i : i + size]}" for i in range(len(padded) - size + 1)]
    hashes = [zlib.crc32(gram.encode()) for gram in found]
    return [(number % BUCKETS, 1 if number >> 31 else -1) for number in hashes]


# --- strategies ---


def trained(
    cost: Cost, strategy: Strategy, source: Any, name: str, steps: int, **settings: Any
) -> float:
    """Trains, or resumes a run; returns the seconds that it took."""
    settings = {"steps": steps, "schedule": "cosine", "log_every": 500, **settings}
    return float(fitted(strategy, source, cost.runs / name, **settings).progress["seconds"])


def trained_and_tested(
    cost: Cost, name: str, data: dict[str, dict[str, qs.ClassDataset]]
) -> dict[str, Any]:
    """Trains one strategy on the mixture and tests it on each data set, ways and shots."""
    torch.manual_seed(0)
    strategy = MAKE[name]()
    seconds = 0.0
    if list(strategy.parameters()):
        tasks = Mixture.of_datasets(
            [splits["train"] for splits in data.values()],
            TRAINING_WAYS,
            TRAINING_SHOTS,
            QUERIES,
            cost.tasks,
        )
        settings = {"tasks": cost.tasks, "clip_norm": 10.0, "warmup_steps": 100}
        seconds = trained(cost, strategy, tasks, name.replace(" ", "-"), cost.steps, **settings)
    cells = {}
    for each, shots, ways in itertools.product(data, SHOTS, WAYS):
        test = data[each]["test"]
        report = qs.evaluate(
            strategy,
            test,
            ways=ways,
            shots=min(shots, int(test.sizes.min()) - QUERIES),
            queries=QUERIES,
            episodes=cost.episodes,
        )
        cells[f"{each} {shots} {ways}"] = [report.accuracy.mean, report.accuracy.ci95, report.nll]
    return {"seconds": round(seconds, 1), "cells": cells}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains what is missing."""
    if options.smoke and not options.out:
        raise SystemExit("Give --out with --smoke: its numbers mean nothing.")
    cost = SMOKE if options.smoke else Cost()
    if missing := list(results.missing("strategies", options.names or MAKE)):
        data = {name: features(cost, name) for name in DATA}
        for name in missing:
            results.keep("strategies", name, trained_and_tested(cost, name, data))


# --- the page ---


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    found = {name: results["strategies"][name] for name in MAKE if name in results["strategies"]}
    columns = list(itertools.product(SHOTS, WAYS))
    tables: list[str] = []
    for each in DATA:
        rows = []
        for name, result in found.items():
            cells = [result["cells"][f"{each} {shots} {ways}"] for shots, ways in columns]
            rows.append([name, *(f"{100 * m:.1f} ± {100 * ci95:.1f}" for m, ci95, _ in cells)])
        head = ["strategy", *(f"{ways}-way {shots}-shot" for shots, ways in columns)]
        tables += [f"## {each}", table(head, rows)]
    blocks = [*tables, "## Over all", *summary(found), pages.measured_on(results["machine"])]
    pages.splice("docs/mixture.md", "mixture", *blocks)


def summary(found: dict[str, Any]) -> list[str]:
    """Means over all cells, and how the portfolio compares with the best member of each cell."""
    rows = []
    for name, result in found.items():
        mean = torch.tensor(list(result["cells"].values()), dtype=torch.float64).mean(0)
        rows.append([name, f"{100 * mean[0]:.2f}", f"{mean[2]:.3f}", f"{result['seconds']:.0f} s"])
    head = ["strategy", "mean accuracy", "mean negative log-likelihood", "training"]
    members = [found[f"only {name}"] for name in MEMBERS if f"only {name}" in found]
    if len(members) < len(MEMBERS) or "Portfolio" not in found:
        return [table(head, rows)]
    compared = {"above": 0, "level": 0, "below": 0}
    for cell, (mean, ci95, _) in found["Portfolio"]["cells"].items():
        best = max((member["cells"][cell] for member in members), key=lambda each: each[0])
        level = abs(mean - best[0]) <= (ci95**2 + best[1] ** 2) ** 0.5
        compared["level" if level else "above" if mean > best[0] else "below"] += 1
    return [
        table(head, rows),
        f"Compared with the best single member of each cell, the portfolio is above it in "
        f"{compared['above']} cells, level in {compared['level']} and below in "
        f"{compared['below']} (level means that the difference is within its 95 % interval).",
    ]


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/mixture.md",),
    "about an hour on two cores",
    start={"strategies": {}},
    options={
        "--smoke": {"action": "store_true", "help": "run everything with few steps; needs --out"},
        "names": {"nargs": "*", "help": "strategies to train; by default all"},
    },
)
