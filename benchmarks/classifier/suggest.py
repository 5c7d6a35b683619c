"""Which texts to label next: those that FewShotClassifier.suggest names, or random ones.

The classifier learns one or three labelled training texts per class of BANKING77 or CLINC150,
embedded by MiniLM. As many more texts are labelled as there are classes, and the official test set
is answered. What is stored is not measured again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import INTENTS, drawn, intents, minilm
from benchmarks.common.intervals import mean_of
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity

SHOTS, SEEDS = (1, 3), 5
BEFORE = "before"

Choose = Callable[[qs.FewShotClassifier, NDArray[Any], int, int], NDArray[np.int64]]


def at_random(
    classifier: qs.FewShotClassifier, pool: NDArray[Any], count: int, seed: int
) -> NDArray[np.int64]:
    """Random texts of the pool."""
    return np.random.default_rng(seed).permutation(len(pool))[:count]


def suggested(
    classifier: qs.FewShotClassifier, pool: NDArray[Any], count: int, seed: int
) -> NDArray[np.int64]:
    """The texts whose labels the classifier asks for."""
    return classifier.suggest(pool, count)


CHOICES: dict[str, Choose] = {"at random": at_random, "suggested": suggested}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing."""
    module = PretrainedTextEncoder(options.encoder or minilm())
    cache = FeatureCache(encoder_identity(module, module.inputs))
    for name in INTENTS:
        (vectors, labels), (test_vectors, test_labels) = (
            (embed(module, module.inputs, texts, cache).numpy(), labels)
            for texts, labels in (intents(name, split) for split in ("train", "test"))
        )
        runs = {f"{name}/{n}/{s}": (n, s) for n, s in itertools.product(SHOTS, range(SEEDS))}
        for run in results.missing("runs", runs):
            shots, seed = runs[run]
            first = drawn(labels, shots, seed)
            pool = np.setdiff1d(np.arange(len(labels)), first)
            found = {}
            for called, choose in {BEFORE: None, **CHOICES}.items():
                classifier = qs.FewShotClassifier(calibrate=False, random_state=seed)
                classifier.fit(vectors[first], labels[first])
                if choose is not None:
                    count = len(classifier.classes_)
                    more = pool[choose(classifier, vectors[pool], count, seed)]
                    classifier.partial_fit(vectors[more], labels[more])
                found[called] = float(np.mean(classifier.predict(test_vectors) == test_labels))
            results.keep("runs", run, found)


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    rows = []
    for name, shots in itertools.product(INTENTS, SHOTS):
        runs = [results["runs"].get(f"{name}/{shots}/{seed}") for seed in range(SEEDS)]
        if all(runs):
            columns = {
                called: 100 * np.array([run[called] for run in runs if run])
                for called in (BEFORE, *CHOICES)
            }
            columns["gain"] = columns["suggested"] - columns["at random"]
            rows.append([name, f"{shots} per class", *map(mean_of, columns.values())])
    head = ["", "labelled before", BEFORE, *CHOICES, "gain"]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/suggest.md", "suggest", table(head, rows), measured)


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/suggest.md",),
    "half an hour on two cores",
    start={"runs": {}},
    options={"--encoder": {"help": "folder or hub name of MiniLM"}},
)
