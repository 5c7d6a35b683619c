"""What a classifier's probabilities are worth: calibration, prediction sets, unknown classes.

FewShotClassifier's defaults on BANKING77 and CLINC150 (all classes at once, official test sets) and
on tasks of features of CIFAR-FS. The features come from the run runs/cifar-fs/pretraining
(``python -m benchmarks accuracy/leaderboard configs/cifar-fs/pretraining.yaml`` makes it). What is
stored is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import INTENTS, data_folder, drawn, intents, minilm
from benchmarks.common.intervals import mean_of
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from quickstudy.evaluation.evaluator import calibration_error

SHOTS, SEEDS = (2, 5, 10), 5
COVERAGES = (0.8, 0.9, 0.95)
TOLERANCE = 2  # points
WHEN = ("before", "after")
RECALL = 0.95
TASKS = 200
CIFAR = "CIFAR-FS, 5-way"
SCORES = {
    "distance": "nearest class mean (`keep`)",
    "energy": "energy",
    "maximum probability": "maximum probability",
}

Answers = dict[str, float]


def measured(
    classifier: qs.FewShotClassifier, prepared: Tensor, targets: Tensor
) -> tuple[Answers, Tensor, Tensor]:
    """How reliable answers to test inputs are; and the raw and calibrated probabilities."""
    model = classifier.model_
    logits = torch.from_numpy(model.logits(prepared))
    found: Answers = {"accuracy": float((logits.argmax(1) == targets).float().mean())}
    calibrated = torch.from_numpy(model.answers.proba(logits.numpy()))
    probabilities = {"before": logits.softmax(1), "after": calibrated}
    for when, some in probabilities.items():
        best = some.max(1)
        found[f"ece {when}"] = calibration_error(best.values, (best.indices == targets).float())
    for coverage in COVERAGES:
        sets = model.answers.sets(logits.numpy(), coverage)
        names = model.classes[targets.numpy()]
        hits = [name in some for name, some in zip(names, sets, strict=True)]
        found[f"covered {coverage}"] = float(np.mean(hits))
        found[f"size {coverage}"] = float(np.mean([len(some) for some in sets]))
    found["kept"] = float(model.answers.known(model.features(prepared), RECALL).mean())
    return found, probabilities["before"], probabilities["after"]


def rejected(
    classifier: qs.FewShotClassifier, known: Tensor, targets: Tensor, unknown: Tensor
) -> dict[str, Answers]:
    """How well each score separates unknown classes from known ones."""
    model = classifier.model_
    both = torch.cat([known, unknown])
    logits = torch.from_numpy(model.logits(both))
    nearness = model.answers.out_of_distribution
    scores = {
        "distance": torch.from_numpy(nearness.scores(model.learner.features(both).numpy())),
        "energy": logits.logsumexp(1),
        "maximum probability": torch.from_numpy(model.answers.proba(logits.numpy()).max(1)),
    }
    right = logits[: len(known)].argmax(1) == targets
    is_known = np.arange(len(both)) < len(known)
    found: dict[str, Answers] = {}
    for name, score in scores.items():
        kept = score >= score[: len(known)].quantile(1 - RECALL)
        answered = torch.cat([right & kept[: len(known)], ~kept[len(known) :]])
        found[name] = {
            "auroc": float(roc_auc_score(is_known, score.numpy())),
            "unknown rejected": float((~kept[len(known) :]).float().mean()),
            "accuracy": float(answered.float().mean()),
        }
    return found


def out_of_scope() -> list[str]:
    """The test texts of CLINC150 that belong to no class."""
    import datasets

    data = datasets.load_dataset(str(data_folder("clinc150")), "out_of_scope", split="test")
    return [t for t, part in zip(data["text"], data["part"], strict=True) if part == "oos_test"]


def of_texts(name: str, encoder: str) -> dict[str, Any]:
    """One data set of texts: for each number of shots the answers of each draw."""
    texts, labels = intents(name, "train")
    test_texts, test_labels = intents(name, "test")
    results: dict[str, Any] = {}
    for shots in SHOTS:
        for seed in range(SEEDS):
            chosen = drawn(labels, shots, seed)
            classifier = qs.FewShotClassifier(encoder).fit(
                [texts[number] for number in chosen], labels[chosen]
            )
            prepared = classifier.model_.prepared(test_texts)
            targets = torch.from_numpy(np.searchsorted(classifier.classes_, test_labels))
            found: dict[str, Any] = measured(classifier, prepared, targets)[0]
            if name == "clinc150":
                unknown = classifier.model_.prepared(out_of_scope())
                found["rejection"] = rejected(classifier, prepared, targets, unknown)
            results.setdefault(str(shots), []).append(found)
            print(name, shots, seed, found, flush=True)
    return results


def of_images(run: Path) -> dict[str, Any]:
    """Tasks of CIFAR-FS's test classes: for each number of shots the answers, tasks pooled."""
    trained = qs.load(run)
    data = qs.load_dataset("cifar-fs", inputs=trained.inputs).split()["test"]
    features = data.embed(trained.strategy.encoder)
    results: dict[str, Any] = {}
    for shots in SHOTS:
        sampler = qs.EpisodeSampler(features, 5, shots, 15, tasks=TASKS, seed=0)
        tasks, some = sampler.episode(0), []
        confidences: dict[str, list[Tensor]] = {"before": [], "after": []}
        hits: list[Tensor] = []
        for task in range(TASKS):
            support, query = tasks.support, tasks.query
            classifier = qs.FewShotClassifier(torch.nn.Identity()).fit(
                support.inputs[task], support.targets[task].numpy()
            )
            targets = query.targets[task]
            found, before, after = measured(classifier, query.inputs[task], targets)
            some.append(found)
            for when, probabilities in (("before", before), ("after", after)):
                confidences[when].append(probabilities.max(1).values.float())
            hits.append((after.argmax(1) == targets).float())
        mean = {key: float(np.mean([found[key] for found in some])) for key in some[0]}
        for when, each in confidences.items():
            mean[f"ece {when}"] = calibration_error(torch.cat(each), torch.cat(hits))
        results[str(shots)] = [mean]
        print(CIFAR, shots, mean, flush=True)
    return results


OPTIONS: dict[str, dict[str, Any]] = {
    "--encoder": {"help": "folder or hub name of MiniLM"},
    "--run": {
        "type": Path,
        "default": ROOT / "runs" / "cifar-fs" / "pretraining",
        "help": "run whose encoder gives the features of CIFAR-FS",
    },
}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing."""
    for name in results.missing("data", (*INTENTS, CIFAR)):
        if name == CIFAR:
            found = of_images(options.run)
        else:
            found = of_texts(name, options.encoder or minilm())
        results.keep("data", name, found)


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    rows = [(n, s, runs) for n, some in results["data"].items() for s, runs in some.items()]
    errors = [
        [name, shots, _mean(runs, "accuracy"), *(_plain(runs, f"ece {when}", 3) for when in WHEN)]
        for name, shots, runs in rows
    ]
    sets = [
        [name, shots, *(cell for each in COVERAGES for cell in _coverage(runs, each))]
        for name, shots, runs in rows
    ]
    rejected = []
    for shots, runs in results["data"].get("clinc150", {}).items():
        for score, called in SCORES.items():
            some = [run["rejection"][score] for run in runs]
            shares = (_mean(some, each) for each in ("unknown rejected", "accuracy"))
            rejected.append([shots, called, _plain(some, "auroc", 3), *shares])
    asked = [cell for each in COVERAGES for cell in (f"asked {100 * each:.0f}", "size")]
    page, head = "docs/calibration.md", ["data", "shots"]
    pages.splice(page, "errors", table([*head, "accuracy", *WHEN], errors))
    pages.splice(page, "sets", table([*head, *asked], sets))
    columns = ["shots", "score", "AUROC", "unknown rejected", "answered correctly"]
    pages.splice(page, "unknown", table(columns, rejected))
    kept = table(
        [*head, "kept"], ([name, shots, _mean(runs, "kept")] for name, shots, runs in rows)
    )
    pages.splice(page, "kept", kept, pages.measured_on(results["machine"]))


def _mean(runs: Sequence[Answers], what: str) -> str:
    return mean_of([100 * run[what] for run in runs])


def _plain(runs: Sequence[Answers], what: str, digits: int) -> str:
    return f"{np.mean([run[what] for run in runs]):.{digits}f}"


def _coverage(runs: Sequence[Answers], coverage: float) -> tuple[str, str]:
    """The share covered, bold where it is far from what was asked, and the size of a set."""
    key = f"covered {coverage}"
    far = abs(100 * np.mean([run[key] for run in runs]) - 100 * coverage) > TOLERANCE
    covered = f"**{_mean(runs, key)}**" if far else _mean(runs, key)
    return covered, _plain(runs, f"size {coverage}", 1)


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/calibration.md",),
    "about an hour on two cores, once the run is there",
    start={"data": {}},
    options=OPTIONS,
)
