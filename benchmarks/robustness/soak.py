"""Trainings, evaluations and classifiers in a loop, in one process: does anything accumulate?

Each round trains a strategy in a new run directory, stops half-way, resumes, and evaluates the
result on classes never trained on; then it decodes a folder of images into a new cache, and fits,
saves, loads and uses classifiers of images, texts and sounds. After each round memory, open handles
and threads are recorded.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

import quickstudy as qs
from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import minilm, noisy_pictures
from benchmarks.common.machine import machine
from benchmarks.common.measuring import memory_mib
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results
from quickstudy.encoders import AudioCNN
from quickstudy.evaluation.outcomes import students_t
from quickstudy.inputs import AudioInputs
from quickstudy.runs import load
from quickstudy.strategies import Strategy
from quickstudy.training import Trainer

PLOT = "images/soak.svg"

STRATEGIES: tuple[Callable[[int], Strategy], ...] = (
    lambda classes: qs.strategies.PrototypicalNetwork(letters_encoder()),
    lambda classes: qs.strategies.MAML(letters_encoder(), ways=5),
    lambda classes: qs.strategies.R2D2(letters_encoder()),
    lambda classes: qs.strategies.Hypernetwork(letters_encoder()),
    lambda classes: qs.strategies.Baseline(letters_encoder(), classes=classes),
)
STEPS, EPISODES = 20, 50
CLASSES, EACH, SIDE, RATE = 5, 6, 40, 8000
WARM_UP = 0.25
"""Share of the time at the beginning in which caches fill and the allocator grows."""

SENTENCES = {
    "card": ["where is my card", "the card has not come", "when will my card be here"],
    "rate": ["is your euro rate fair", "how many dollars for a pound", "what is the rate today"],
    "pin": ["I forgot my pin", "how do I change the pin", "my pin does not work"],
}
QUANTITIES = {
    "mib": "memory (MiB)",
    "descriptors": "open handles",
    "threads": "threads",
    "files": "files left",
}


def letters_encoder() -> qs.encoders.Conv4:
    """A small encoder for the letters."""
    return qs.encoders.Conv4(input_shape=(1, 28, 28), channels=32)


def one_round(number: int, parts: dict[str, Any], work: Path) -> None:
    """Does everything once; writes into ``work``."""
    strategy = STRATEGIES[number % len(STRATEGIES)]
    options: dict[str, Any] = {
        "ways": 5, "queries": 5, "tasks": 2, "steps": STEPS, "seed": number, "log_every": 5,
        "validate_every": STEPS // 2, "validation_episodes": 20, "checkpoint_every": 5,
        "show_progress": False,
    }  # fmt: skip
    for until in (STEPS // 2, None):
        Trainer(**options).fit(
            strategy(len(parts["train"].class_names)),
            parts["train"],
            parts["validation"],
            out=work / "run",
            resume=until is None,
            until=until,
        )
    qs.evaluate(load(work / "run"), parts["test"], ways=5, shots=1, episodes=EPISODES)

    generator = np.random.default_rng(number)
    noisy_pictures(work / "images", CLASSES, EACH, (SIDE, SIDE), generator)
    decoded = qs.load_dataset(
        str(work / "images"), inputs=qs.inputs.ImageInputs(size=28, channels=1)
    )
    assert len(decoded.class_names) == CLASSES
    paths = sorted((work / "images").rglob("*.png"))
    labels = [path.parent.name for path in paths]
    ask(qs.FewShotClassifier(strategy=str(work / "run")), paths, labels, work)

    texts = [text for some in SENTENCES.values() for text in some]
    names = [name for name, some in SENTENCES.items() for _ in some]
    ask(qs.FewShotClassifier(encoder=minilm()), texts, names, work)

    torch.manual_seed(number)
    inputs = AudioInputs(rate=RATE, seconds=0.5)
    encoder = AudioCNN((inputs.samples,), RATE)
    sounds = [(tone(label, generator), RATE) for label in range(CLASSES) for _ in range(EACH)]
    pitches = [f"pitch {label}" for label in range(CLASSES) for _ in range(EACH)]
    ask(qs.FewShotClassifier(encoder=encoder, inputs=inputs), sounds, pitches, work)


def ask(
    classifier: qs.FewShotClassifier, examples: Sequence[Any], labels: Sequence[str], work: Path
) -> None:
    """Fits, saves, loads and uses a classifier in every way."""
    classifier.fit(list(examples), list(labels))
    classifier.save(work / "classifier.qs")
    again = qs.FewShotClassifier.load(work / "classifier.qs")
    again.predict_proba(list(examples))
    again.predict(list(examples), keep=True)
    again.predict_set(list(examples)[:3], coverage=0.9)
    again.explain(examples[0])
    again.partial_fit([examples[0]], [labels[0]])


def tone(label: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Half a second of a noisy tone, ``[4000]``."""
    moments = np.arange(RATE // 2) / RATE
    wave = np.sin(2 * math.pi * 200 * (label + 1) * moments)
    return (wave + 0.1 * generator.standard_normal(len(wave))).astype(np.float32)


def held(folder: Path) -> dict[str, float]:
    """Memory, open handles, threads and files of this process now."""
    gc.collect()
    return {
        "mib": round(memory_mib(), 1),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
        "files": sum(path.is_file() for path in folder.rglob("*")),
    }


def rounds_for(minutes: float) -> list[dict[str, float]]:
    """Repeats rounds for that long."""
    noted: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QUICKSTUDY_CACHE"] = f"{folder}/cache"
        parts = qs.load_dataset("glyphs").split()
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < 60 * minutes:
            work = Path(folder) / "work"
            one_round(len(noted), parts, work)
            shutil.rmtree(work)
            shutil.rmtree(f"{folder}/cache/datasets", ignore_errors=True)
            passed = time.monotonic() - begun
            noted.append({"minute": round(passed / 60, 3), **held(Path(folder))})
            print(json.dumps(noted[-1]), flush=True)
    return noted


def growth(rounds: Sequence[dict[str, float]], name: str) -> tuple[float, float]:
    """How much a quantity grows per hour after the warm-up, and half its 95 % interval.

    By least squares over the means of ten equal stretches, because consecutive rounds are not
    independent.
    """
    last = rounds[-1]["minute"]
    late = [each for each in rounds if each["minute"] >= WARM_UP * last]
    stretches = np.array_split(np.array([[each["minute"] / 60, each[name]] for each in late]), 10)
    hours, values = np.array([stretch.mean(0) for stretch in stretches]).T
    (slope, _), covariance = np.polyfit(hours, values, 1, cov=True)
    error = math.sqrt(max(0.0, covariance[0, 0]))
    return float(slope), students_t(len(hours) - 2) * error


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures everything anew."""
    results |= {"machine": machine(), "rounds": rounds_for(options.minutes)}
    results.save()


def write(results: Results, pages: Pages) -> None:
    """Puts the section into the page, and draws its picture."""
    rounds = results["rounds"]
    minutes = rounds[-1]["minute"]
    late = [each for each in rounds if each["minute"] >= WARM_UP * minutes]
    rows = []
    for name, called in QUANTITIES.items():
        values = [each[name] for each in late]
        slope, interval = growth(rounds, name)
        cells = [f"{each:g}" for each in (values[0], min(values), max(values), values[-1])]
        rows.append([called, *cells, f"{round(slope, 2) + 0.0:+.2f} ± {interval:.2f}"])
    head = ["", f"after {WARM_UP * minutes:.0f} minutes", "least since", "most since", "at the end"]
    pages.splice(
        "docs/robustness.md",
        "soak",
        f"One process, {minutes:.0f} minutes, {len(rounds)} rounds:",
        table([*head, "growth per hour since"], rows),
        f"![Memory, handles and threads over time]({PLOT})",
        pages.measured_on(results["machine"]),
    )
    pages.draw(f"docs/{PLOT}", plot(rounds))


def plot(rounds: Sequence[dict[str, float]]) -> Figure:
    """Draws each quantity over time."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    minutes = [each["minute"] for each in rounds]
    panels = figure.subplots(len(QUANTITIES), 1, sharex=True)
    for axes, (name, called) in zip(panels, QUANTITIES.items(), strict=True):
        values = [each[name] for each in rounds]
        axes.plot(minutes, values, linewidth=1)
        axes.set_ylim(0, 1.15 * max([1.0, *values]))
        axes.set_ylabel(called, fontsize=8)
        axes.tick_params(labelsize=7)
    panels[-1].set_xlabel("minutes", fontsize=8)
    return figure


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/robustness.md", f"docs/{PLOT}"),
    "two hours",
    options={"--minutes": {"type": float, "default": 120.0, "help": "default: 120"}},
)
