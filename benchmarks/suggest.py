"""Which texts to label next: those that ``suggest`` names, or any.

FewShotClassifier on the training texts of BANKING77 and CLINC150, embedded by MiniLM: from one or
three labelled texts a class, as many more are labelled as there are classes, and the official test
set is asked. Writes docs/suggest.md from benchmarks/results/suggest.json; what is there is not done
twice.

    QUICKSTUDY_DATA=folder python benchmarks/suggest.py [--encoder FOLDER] [--table]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from results import RESULTS, ROOT, machine
from texts import LABELS, drawn, half_width, minilm, read

import quickstudy as qs
from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed
from quickstudy.encoders.feature_cache import FeatureCache, encoder_identity
from quickstudy.saving.files import write_text_atomically

PATH = RESULTS / "suggest.json"
PAGE = ROOT / "docs" / "suggest.md"
SHOTS, SEEDS = (1, 3), 5
BEFORE = "before"

Choose = Callable[[qs.FewShotClassifier, NDArray[Any], int, int], NDArray[np.int64]]


def at_random(
    classifier: qs.FewShotClassifier, pool: NDArray[Any], count: int, seed: int
) -> NDArray[np.int64]:
    """Any texts of the pool."""
    return np.random.default_rng(seed).permutation(len(pool))[:count]


def suggested(
    classifier: qs.FewShotClassifier, pool: NDArray[Any], count: int, seed: int
) -> NDArray[np.int64]:
    """Those that the classifier asks for."""
    return classifier.suggest(pool, count)


CHOICES: dict[str, Choose] = {"at random": at_random, "suggested": suggested}


def measure(name: str, encoder: str, results: dict[str, Any]) -> None:
    """Measures what is missing of one data set."""
    module = PretrainedTextEncoder(encoder)
    cache = FeatureCache(encoder_identity(module, module.inputs))
    (vectors, labels), (test_vectors, test_labels) = (
        (embed(module, module.inputs, texts, cache).numpy(), labels)
        for texts, labels in (read(name, part) for part in ("train", "test"))
    )
    for shots in SHOTS:
        for seed in range(SEEDS):
            run = f"{name}/{shots}/{seed}"
            if run in results["runs"]:
                continue
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
                answers = classifier.predict(test_vectors)
                found[called] = float(np.mean(answers == test_labels))
            results["runs"][run] = found
            write_text_atomically(PATH, json.dumps(results, indent=1) + "\n")
            print(run, {called: f"{accuracy:.1%}" for called, accuracy in found.items()})


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# What to label next",
        "",
        "`FewShotClassifier.suggest` names the unlabelled texts whose labels would help most. From",
        "some labelled training texts of each class, as many more are labelled as there are",
        "classes, all at once, from all other training texts. Accuracy on the official test set in",
        f"%, mean over {SEEDS} draws with its 95 % interval, and the gain over labelling at random",
        "from the same start; texts embedded by all-MiniLM-L6-v2, the classes' names not used.",
        "",
        f"| | labelled before | {BEFORE} | {' | '.join(CHOICES)} | gain |",
        "| --- | --- | --- |" + " --- |" * (len(CHOICES) + 1),
    ]
    for name in LABELS:
        for shots in SHOTS:
            runs = [results["runs"].get(f"{name}/{shots}/{seed}") for seed in range(SEEDS)]
            if not all(runs):
                continue
            columns = {
                called: 100 * np.array([run[called] for run in runs if run])
                for called in (BEFORE, *CHOICES)
            }
            columns["gain"] = columns["suggested"] - columns["at random"]
            cells = [f"{values.mean():.1f}{half_width(values)}" for values in columns.values()]
            lines.append(f"| {name} | {shots} a class | {' | '.join(cells)} |")
    lines += ["", f"{results['machine']}. Written by `python benchmarks/suggest.py`."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="where MiniLM is: a local folder or a hub id")
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "runs": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text(encoding="utf-8"))
    for name in [] if options.table else LABELS:
        measure(name, options.encoder or minilm(), results)
    write_text_atomically(PAGE, page(results))


if __name__ == "__main__":
    main()
