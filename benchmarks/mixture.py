"""Many learning algorithms on a mixture of data sets: a portfolio against each of its members.

Tasks come from Omniglot, CIFAR-FS and the intents of BANKING77 and CLINC150, of 2 to 20 ways and 1
to 20 shots. Every strategy is meta-trained on the same tasks for as many steps, from the same start
of the same encoder, on features that were made once. Writes docs/mixture.md from
benchmarks/results/mixture.json; what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/mixture.py [--table] [--smoke] [NAME ...]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from results import RESULTS, ROOT, machine
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import quickstudy as qs
from quickstudy.episodes import Mixture
from quickstudy.inputs import FeatureInputs
from quickstudy.runs import Run
from quickstudy.strategies import Strategy

DATA = ("omniglot", "cifar-fs", "text")
WAYS, SHOTS, QUERIES = (2, 5, 20), (1, 5, 20), 5
TRAINING_WAYS, TRAINING_SHOTS = (2, 5, 10, 20), (1, 2, 5, 10, 15, 20)
SIZE = 256
"""Numbers in a feature, of every data set."""
BUCKETS = 2**14
"""Of hashed n-grams."""
TEXTS = {"banking77": "label", "clinc150": "intent"}
"""Data sets of texts, and the column of their classes."""


@dataclass(frozen=True)
class Cost:
    """How much is done.

    Args:
        encoder_steps: of the two encoders of images.
        steps: of each strategy, each of so many tasks.
        tasks: in a step.
        episodes: of each cell of the table.
        classes: of each part of a data set, at most.
        runs: where runs and features go.
        results: the file of results.
        page: the page.
    """

    encoder_steps: int = 4000
    steps: int = 4000
    tasks: int = 4
    episodes: int = 400
    classes: int | None = None
    runs: Path = ROOT / "runs" / "mixture"
    results: Path = RESULTS / "mixture.json"
    page: Path = ROOT / "docs" / "mixture.md"


SMALL = ROOT / "runs" / "mixture-smoke"
SMOKE = Cost(2, 3, 2, 4, 24, SMALL, SMALL / "mixture.json", SMALL / "mixture.md")


def encoder() -> qs.encoders.MLP:
    """What every strategy learns on top of the features."""
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
    parts = texts() if name == "text" else qs.load_dataset(name).split()
    if cost.classes is not None:
        parts = {
            part: data.select(range(min(cost.classes, data.classes)))
            for part, data in parts.items()
        }
    path = cost.runs / f"{name}.safetensors"
    if not path.exists():
        network = NGrams(parts["train"]) if name == "text" else image_encoder(cost, name, parts)
        made = {part: parts[part].embed(network).examples for part in ("train", "test")}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({part: of_one_size(each) for part, each in made.items()}, path)
    return {
        part: replace(
            parts[part],
            examples=examples,
            starts=parts[part].sizes.cumsum(0) - parts[part].sizes,
            inputs=FeatureInputs(SIZE),
        )
        for part, examples in load_file(path).items()
    }


def of_one_size(vectors: Tensor) -> Tensor:
    """Vectors ``[n, D]`` as ``[n, SIZE]``, their angles kept as far as it has room for.

    All have the length that numbers of size 1 would have, which a network's first layer expects.
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


def image_encoder(cost: Cost, name: str, parts: dict[str, qs.ClassDataset]) -> qs.encoders.Conv4:
    """A Conv4 that learned on the training classes."""
    train = parts["train"]
    torch.manual_seed(0)
    images = qs.encoders.Conv4(tuple(train.shape))
    if name == "omniglot":
        learner: Strategy = qs.strategies.PrototypicalNetwork(images)
        settings = {"ways": min(30, train.classes), "queries": 5}
    else:
        learner = qs.strategies.Baseline(images, classes=train.classes)
        settings = {"batch_size": 64}
    finished(cost, learner, train, f"{name}-encoder", cost.encoder_steps, **settings)
    return images


def texts() -> dict[str, qs.ClassDataset]:
    """The intents of all data sets of texts, by part; an example is the number of its text."""
    found = read_texts()
    parts = {}
    for part in ("train", "test"):
        numbers = [number for number, each in enumerate(found) if each[2] == part]
        labels = [found[number][1] for number in numbers]
        examples = torch.tensor(numbers, dtype=torch.float32)[:, None]
        parts[part] = qs.ClassDataset.from_arrays(examples, labels, FeatureInputs(1), "text")
    return parts


@functools.cache
def read_texts() -> list[tuple[str, str, str]]:
    """Every text with its class and the part (train, validation or test) that the class is in."""
    import datasets

    datasets.disable_progress_bars()
    found = []
    for name, column in TEXTS.items():
        folder = Path(os.environ.get("QUICKSTUDY_DATA", "")) / name
        if not (folder / "class_splits.json").exists():
            raise SystemExit(f"Name the folder in which {name} lies in QUICKSTUDY_DATA.")
        split = next(iter(json.loads((folder / "class_splits.json").read_text()).values()))
        part_of = {label: part for part, labels in split.items() for label in labels}
        files = [str(f) for f in sorted(folder.glob("*.parquet")) if f.stem != "out_of_scope"]
        with tempfile.TemporaryDirectory() as cache:
            table = datasets.load_dataset("parquet", data_files=files, cache_dir=cache)["train"]
            names = getattr(table.features[column], "names", None)
            for text, label in zip(table["text"], table[column], strict=True):
                label = names[label] if names else label
                found.append((text, f"{name}: {label}", part_of[label]))
    return found


class NGrams(nn.Module):
    """From the numbers ``[B, 1]`` of texts to hashed n-grams ``[B, SIZE]``, the rare weigh more.

    Args:
        train: what tells how rare an n-gram is.
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
        """Projected, of what length they may be."""
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


def finished(
    cost: Cost, strategy: Strategy, source: Any, name: str, steps: int, **settings: Any
) -> Run:
    """Trains, or goes on where a run stopped."""
    out = cost.runs / name
    run = qs.fit(
        strategy,
        source,
        out=out,
        resume=(out / "config.yaml").exists(),
        steps=steps,
        schedule="cosine",
        log_every=500,
        **settings,
    )
    if not run.progress["finished"]:
        raise SystemExit("Stopped; it goes on from here when called again.")
    return run


def measure(cost: Cost, name: str, data: dict[str, dict[str, qs.ClassDataset]]) -> dict[str, Any]:
    """Trains one strategy on the mixture and tests it on each data set, way and shot."""
    torch.manual_seed(0)
    strategy = MAKE[name]()
    seconds = 0.0
    if list(strategy.parameters()):
        tasks = Mixture.of_datasets(
            [parts["train"] for parts in data.values()],
            TRAINING_WAYS,
            TRAINING_SHOTS,
            QUERIES,
            cost.tasks,
        )
        out = name.replace(" ", "-")
        settings = {"tasks": cost.tasks, "clip_norm": 10.0, "warmup_steps": 100}
        run = finished(cost, strategy, tasks, out, cost.steps, **settings)
        seconds = run.progress["seconds"]
    cells = {}
    for each, parts in data.items():
        for shots in SHOTS:
            for ways in WAYS:
                report = qs.evaluate(
                    strategy,
                    parts["test"],
                    ways=ways,
                    shots=most_shots(parts["test"], shots),
                    queries=QUERIES,
                    episodes=cost.episodes,
                )
                accuracy = report.accuracy
                cells[f"{each} {shots} {ways}"] = [accuracy.mean, accuracy.ci95, report.nll]
    return {"seconds": round(seconds, 1), "cells": cells}


def most_shots(data: qs.ClassDataset, shots: int) -> int:
    """So many shots, or as many as its smallest class has beside the queries."""
    return min(shots, int(data.sizes.min()) - QUERIES)


# --- the page ---


def page(cost: Cost, results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# A mixture of data sets",
        "",
        "One meta-training for all: tasks of Omniglot, CIFAR-FS and the intents of BANKING77 and",
        f"CLINC150, {min(TRAINING_WAYS)} to {max(TRAINING_WAYS)} ways, {min(TRAINING_SHOTS)} to",
        f"{max(TRAINING_SHOTS)} shots, {cost.steps} steps of {cost.tasks} tasks each.",
        f"Inputs are vectors of {SIZE} numbers: of images by a Conv4 that learned on the training",
        "classes, of texts hashed n-grams, each brought to that size by a fixed random projection.",
        "On them each strategy learns an encoder of its own, from the same start (NearestNeighbor",
        "learns nothing). *Only* rows are a portfolio of one member: that algorithm, its settings",
        "emitted for each task. `python benchmarks/mixture.py` repeats all of it.",
        "",
        f"Accuracy in % with its 95 % interval over {cost.episodes} test episodes,",
        f"{QUERIES} queries a class, classes never trained on. Characters of Omniglot have 20",
        f"drawings: its {max(SHOTS)} shots are {20 - QUERIES}.",
    ]
    found = {name: results["strategies"][name] for name in MAKE if name in results["strategies"]}
    for each in DATA:
        lines += ["", f"## {each}", ""]
        columns = [(shots, ways) for shots in SHOTS for ways in WAYS]
        heads = [f"{ways}-way {shots}-shot" for shots, ways in columns]
        lines += [f"| strategy | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
        for name, result in found.items():
            cells = [result["cells"][f"{each} {shots} {ways}"] for shots, ways in columns]
            shown = [f"{100 * mean:.1f} ± {100 * ci95:.1f}" for mean, ci95, _ in cells]
            lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += ["", "## Over all", "", *summary(found)]
    lines += ["", f"Measured on {results['machine']}."]
    return "\n".join(lines) + "\n"


def summary(found: dict[str, Any]) -> list[str]:
    """Means over all cells, and how the portfolio stands to the best member of each cell."""
    lines = [
        "| strategy | mean accuracy | mean negative log-likelihood | training |",
        "| --- | --- | --- | --- |",
    ]
    for name, result in found.items():
        table = torch.tensor(list(result["cells"].values()), dtype=torch.float64).mean(0)
        cells = [f"{100 * table[0]:.2f}", f"{table[2]:.3f}", f"{result['seconds']:.0f} s"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    members = [found[f"only {name}"] for name in MEMBERS if f"only {name}" in found]
    if len(members) < len(MEMBERS) or "Portfolio" not in found:
        return lines
    stands = {"above": 0, "level": 0, "below": 0}
    for cell, (mean, ci95, _) in found["Portfolio"]["cells"].items():
        best = max((member["cells"][cell] for member in members), key=lambda each: each[0])
        level = abs(mean - best[0]) <= (ci95**2 + best[1] ** 2) ** 0.5
        stands["level" if level else "above" if mean > best[0] else "below"] += 1
    return [
        *lines,
        "",
        f"Against the best single member of each cell, the portfolio is above it in "
        f"{stands['above']} cells, level in {stands['level']} and below in {stands['below']} "
        "(level: the difference is within the interval of a difference).",
    ]


def main() -> None:
    """Trains, measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("--smoke", action="store_true", help="all of it in small")
    parser.add_argument("names", nargs="*", help="by default all")
    options = parser.parse_args()
    cost = SMOKE if options.smoke else Cost()
    results: dict[str, Any] = {"machine": machine(), "strategies": {}}
    if cost.results.exists():
        results = json.loads(cost.results.read_text())
    missing = [name for name in options.names or MAKE if name not in results["strategies"]]
    if missing and not options.table:
        data = {name: features(cost, name) for name in DATA}
        for name in missing:
            results["strategies"][name] = measure(cost, name, data)
            cost.results.parent.mkdir(parents=True, exist_ok=True)
            cost.results.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            cost.page.write_text(page(cost, results), encoding="utf-8")
    cost.page.write_text(page(cost, results), encoding="utf-8")


if __name__ == "__main__":
    main()
