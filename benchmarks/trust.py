"""When not to trust a classifier: calibration, unknown classes, prediction sets.

FewShotClassifier's defaults on BANKING77 and CLINC150 (all classes at once, official test sets) and
on tasks of features of CIFAR-FS. Writes docs/trust.md from benchmarks/results/trust.json.

    QUICKSTUDY_DATA=folder python benchmarks/trust.py [--encoder FOLDER] [--run RUN] [--table]

RUN is a run whose encoder gives the features of CIFAR-FS; runs/cifar-fs/pretraining by default
(`python benchmarks/leaderboard.py configs/cifar-fs/pretraining.yaml` makes it).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from results import RESULTS, ROOT, machine
from sklearn.metrics import roc_auc_score
from texts import LABELS, drawn, half_width, minilm, read
from torch import Tensor

import quickstudy as qs
from quickstudy.evaluation.evaluator import calibration_error

PATH = RESULTS / "trust.json"
PAGE = ROOT / "docs" / "trust.md"
SHOTS, SEEDS = (2, 5, 10), 5
COVERAGES = (0.8, 0.9, 0.95)
TOLERANCE = 2  # points
RECALL = 0.95
TASKS = 200
CIFAR = "CIFAR-FS, 5-way"
SCORES = {
    "distance": "nearest class mean (`keep`)",
    "energy": "energy",
    "maximum probability": "maximum probability",
}

Answers = dict[str, float]


def trusted(
    classifier: qs.FewShotClassifier, prepared: Tensor, targets: Tensor
) -> tuple[Answers, Tensor, Tensor]:
    """How far answers to test inputs can be trusted; and the raw and calibrated probabilities."""
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
    """How well unknown classes are told from known ones, by each score."""
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
    """CLINC150's test texts of no class."""
    import datasets

    path = Path(os.environ["QUICKSTUDY_DATA"]) / "clinc150"
    data = datasets.load_dataset(str(path), "out_of_scope", split="test")
    return [t for t, part in zip(data["text"], data["part"], strict=True) if part == "oos_test"]


def measure_texts(name: str, encoder: str) -> dict[str, Any]:
    """One data set of texts: for each number of shots what was found with each draw."""
    texts, labels = read(name, "train")
    test_texts, test_labels = read(name, "test")
    results: dict[str, Any] = {}
    for shots in SHOTS:
        for seed in range(SEEDS):
            chosen = drawn(labels, shots, seed)
            classifier = qs.FewShotClassifier(encoder).fit(
                [texts[number] for number in chosen], labels[chosen]
            )
            prepared = classifier.model_.prepared(test_texts)
            targets = torch.from_numpy(np.searchsorted(classifier.classes_, test_labels))
            found: dict[str, Any] = trusted(classifier, prepared, targets)[0]
            if name == "clinc150":
                unknown = classifier.model_.prepared(out_of_scope())
                found["rejection"] = rejected(classifier, prepared, targets, unknown)
            results.setdefault(str(shots), []).append(found)
            print(name, shots, seed, found, flush=True)
    return results


def measure_images(run: Path) -> dict[str, Any]:
    """Tasks of CIFAR-FS's test classes: for each number of shots what was found, tasks pooled."""
    trained = qs.load(run)
    data = qs.load_dataset("cifar-fs", inputs=trained.inputs).split()["test"]
    features = data.embed(trained.strategy.encoder)
    results: dict[str, Any] = {}
    for shots in SHOTS:
        sampler = qs.EpisodeSampler(features, 5, shots, 15, TASKS, 0)
        tasks, some = sampler.episode(0), []
        confidences: dict[str, list[Tensor]] = {"before": [], "after": []}
        hits: list[Tensor] = []
        for task in range(TASKS):
            support, query = tasks.support, tasks.query
            classifier = qs.FewShotClassifier(torch.nn.Identity()).fit(
                support.inputs[task], support.targets[task].numpy()
            )
            targets = query.targets[task]
            found, before, after = trusted(classifier, query.inputs[task], targets)
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


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# When not to trust a classifier",
        "",
        "`FewShotClassifier()` measures itself on examples that it holds out: five times it learns",
        "from all but a fifth of them. From their logits comes the temperature that makes",
        "probabilities mean what they say, from their probabilities the prediction sets of",
        "`predict_set`, and from their distances to their classes' means what `keep` takes for",
        "unknown. Here that is tested. Texts: all classes at once, official test sets, the encoder",
        f"all-MiniLM-L6-v2, {SEEDS} draws of the examples. Images: {TASKS} tasks of CIFAR-FS's",
        "test classes, Conv4's features. Written by `python benchmarks/trust.py`.",
        "",
        "## Calibration",
        "",
        "Expected calibration error (15 bins) before and after division by the temperature.",
        "",
        "| data | shots | accuracy | before | after |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, shots, runs in _rows(results):
        cells = [_mean(runs, "accuracy", 100, 1), *_pair(runs, "ece before", "ece after")]
        lines.append(f"| {name} | {shots} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Prediction sets",
        "",
        "The share of test inputs, in %, whose set holds their class, and the mean size of a set.",
        f"**Bold** where it is more than {TOLERANCE} points from what was asked: of 10 held-out",
        "examples (CIFAR-FS, 2 shots) no fine threshold can be found. Held-out examples are",
        "answered by learners that know a fifth less than the one in use. What that fifth does to",
        "the threshold is told by what one fifth more does: three times it learns without two.",
        "",
        "| data | shots | " + " | ".join(f"asked {100 * c:.0f} | size" for c in COVERAGES) + " |",
        "| --- | --- |" + " --- | --- |" * len(COVERAGES),
    ]
    for name, shots, runs in _rows(results):
        cells = []
        for coverage in COVERAGES:
            covered = _mean(runs, f"covered {coverage}", 100, 1)
            found = 100 * np.mean([run[f"covered {coverage}"] for run in runs])
            cells.append(f"**{covered}**" if abs(found - 100 * coverage) > TOLERANCE else covered)
            cells.append(f"{np.mean([run[f'size {coverage}'] for run in runs]):.1f}")
        lines.append(f"| {name} | {shots} | {' | '.join(cells)} |")
    lines += [
        "",
        "## None of these",
        "",
        "CLINC150's 4,500 test texts beside its 1,000 of no class. At the threshold that",
        f"keeps {100 * RECALL:.0f} % of the known: the share of the unknown that is rejected, and",
        "the share of all texts that are answered rightly, by their class or by none.",
        "",
        "| shots | score | AUROC | unknown rejected | answered rightly |",
        "| --- | --- | --- | --- | --- |",
    ]
    for shots, runs in results["data"].get("clinc150", {}).items():
        for score, called in SCORES.items():
            some = [run["rejection"][score] for run in runs]
            cells = [_mean(some, "auroc", 1, 3)]
            cells += [_mean(some, each, 100, 1) for each in ("unknown rejected", "accuracy")]
            lines.append(f"| {shots} | {called} | {' | '.join(cells)} |")
    lines += [
        "",
        f"What `keep=True` keeps of known test inputs, asked for {100 * RECALL:.0f} %:",
        "",
        "| data | shots | kept |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {shots} | {_mean(runs, 'kept', 100, 1)} |"
        for name, shots, runs in _rows(results)
    ]
    return "\n".join([*lines, "", f"Measured on {results['machine']}."]) + "\n"


def _rows(results: dict[str, Any]) -> list[tuple[str, str, list[Answers]]]:
    return [(n, s, runs) for n, some in results["data"].items() for s, runs in some.items()]


def _mean(runs: Sequence[Answers], what: str, unit: float, digits: int) -> str:
    values: NDArray[Any] = unit * np.array([run[what] for run in runs])
    interval = half_width(values) if digits < 3 else ""
    return f"{values.mean():.{digits}f}{interval}"


def _pair(runs: Sequence[Answers], *names: str) -> list[str]:
    return [f"{np.mean([run[name] for run in runs]):.3f}" for name in names]


def main() -> None:
    """Measures what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="a local folder or a hub id")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "cifar-fs" / "pretraining")
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "data": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    for name in () if options.table else (*LABELS, CIFAR):
        if name not in results["data"]:
            found = (
                measure_images(options.run)
                if name == CIFAR
                else measure_texts(name, options.encoder or minilm())
            )
            results["data"][name] = found
            PATH.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
