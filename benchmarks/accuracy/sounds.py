"""Sounds of new classes: new words from new speakers, and digits of another data set.

Meta-trains what configs/dspspeech20 describes and evaluates it beside an untrained encoder and
plain means of log-mels. A stopped run is resumed; what is stored is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.data import data_folder
from benchmarks.common.intervals import mean_and_interval, percent
from benchmarks.common.measuring import ONE_CORE
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import ROOT, Results
from benchmarks.common.training import EPISODES, digest, train_config
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.encoders import LogMel
from quickstudy.evaluation import evaluate
from quickstudy.inputs import AudioInputs, Inputs, inputs_from_dict
from quickstudy.runs import Checkpoint, load
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.description import Description, build
from quickstudy.strategies import NearestNeighbor, PrototypicalNetwork, Strategy

CONFIGS = ROOT / "configs" / "dspspeech20"
WAYS, SHOTS, MOST_QUERIES = 5, (1, 5), 15
UNTRAINED_SEEDS = 3
UNTRAINED = f"untrained encoder: class means, mean of {UNTRAINED_SEEDS} seeds"
STRETCHES = 8


class MeanLogMels(nn.Module):
    """The mean of the log-mels over each of several equal stretches of a sound; nothing is learned.

    Args:
        rate: samples per second.
        stretches: number of stretches of time, each of which has its own mean.
    """

    def __init__(self, rate: int, stretches: int = 1) -> None:
        super().__init__()
        self.log_mel = LogMel(rate)
        self.stretches = stretches

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, mels * stretches]`` of waveforms ``[B, samples]``."""
        bands, present = self.log_mel.normalized(x)
        lengths = present.sum(1).clamp(min=1).tolist()
        return torch.stack(
            [
                F.adaptive_avg_pool1d(each[0, :, :length], self.stretches).flatten()
                for each, length in zip(bands, lengths, strict=True)
            ]
        )


def test_data(inputs: Inputs) -> dict[str, ClassDataset]:
    """The test data, read as the runs read their sounds."""
    heard = load_dataset("dspspeech20", inputs=inputs, where={"speaker": "speakers/test"})
    return {"words": heard.split("words")["test"], "digits": load_dataset("fsdd", inputs=inputs)}


def queries_of(data: ClassDataset, shots: int) -> int:
    """Queries per class: as many as the smallest class has besides its shots, 15 at most."""
    return min(MOST_QUERIES, int(data.sizes.min()) - shots)


def reports_of(strategies: Sequence[Strategy], data: dict[str, ClassDataset]) -> dict[str, Any]:
    """The accuracy in each kind of task, averaged over strategies that differ by their seed."""
    found = {}
    for name, test in data.items():
        for shots in SHOTS:
            queries = queries_of(test, shots)
            reports = [
                evaluate(each, test, ways=WAYS, shots=shots, queries=queries, episodes=EPISODES)
                for each in strategies
            ]
            accuracies = torch.stack([r.accuracies for r in reports if r.accuracies is not None])
            mean, interval = mean_and_interval(accuracies.mean(0))
            found[f"{name}, {shots}-shot"] = {
                "mean": mean,
                "ci95": interval,
                "queries": queries,
                "each": [report.accuracy.mean for report in reports],
            }
    return found


def plain(inputs: AudioInputs) -> dict[str, Strategy]:
    """The strategies that need no training."""
    rows: dict[str, Strategy] = {}
    for stretches in (1, STRETCHES):
        vectors = MeanLogMels(inputs.rate, stretches)
        called = "mean log-mels" if stretches == 1 else f"log-mels, means of {stretches} stretches"
        rows[f"{called}: nearest neighbour"] = NearestNeighbor(vectors)
        rows[f"{called}: class means"] = PrototypicalNetwork(vectors)
    return rows


def measure(options: argparse.Namespace, results: Results) -> None:
    """Trains and evaluates what is missing."""
    for name in ("dspspeech20", "fsdd"):
        data_folder(name)
    for config in sorted(CONFIGS.glob("*.yaml")):
        if not is_done(results, config.stem, config):
            run = train_config(config, ONE_CORE)
            trained, progress = load(run), Checkpoint.load(RunDirectory(run).last).progress
            about = {part: progress[part] for part in ("step", "best_step")}
            note(results, config.stem, config, [trained.strategy], trained.inputs, about)
    default = CONFIGS / "prototypical_network.yaml"
    saved = Checkpoint.load(RunDirectory(train_config(default, ONE_CORE)).last)
    inputs = inputs_from_dict(saved.inputs)
    assert isinstance(inputs, AudioInputs)
    if not is_done(results, UNTRAINED, default):
        seeded = [_built(saved.strategy, seed) for seed in range(UNTRAINED_SEEDS)]
        note(results, UNTRAINED, default, seeded, inputs)
    for name, strategy in plain(inputs).items():
        if not is_done(results, name, default):
            note(results, name, default, [strategy], inputs)


def _built(description: Description, seed: int) -> Strategy:
    torch.manual_seed(seed)
    strategy = build(description)
    assert isinstance(strategy, Strategy)
    return strategy


def is_done(results: Results, name: str, config: Path) -> bool:
    """Whether a row of this version of the config is stored."""
    stored = results["rows"].get(name, {}).get("config_digest")
    return bool(stored == digest(config.read_bytes()))


def note(
    results: Results,
    name: str,
    config: Path,
    strategies: Sequence[Strategy],
    inputs: Inputs,
    about: dict[str, Any] | None = None,
) -> None:
    """Evaluates a row and stores it."""
    data = test_data(inputs)
    row = {"config_digest": digest(config.read_bytes())} | (about or {})
    results.keep("rows", name, row | {"accuracy": reports_of(strategies, data)})


def write(results: Results, pages: Pages) -> None:
    """Writes the table, and by how much meta-training helps."""
    rows = results["rows"]
    columns = list(next(iter(rows.values()))["accuracy"])
    trained = [name for name in rows if "step" in rows[name]]
    others = [name for name in rows if name not in trained]
    cells = []
    for name in trained + others:
        config = f"[{name}](../configs/dspspeech20/{name}.yaml)"
        accuracies = (percent(rows[name]["accuracy"][column], 1) for column in columns)
        steps = f"{rows[name]['step']} steps" if name in trained else "—"
        cells.append([config if name in trained else name, *accuracies, steps])
    apart = "\n".join(_apart(rows, trained, others, column) for column in columns)
    blocks = [table(["", *columns, "training"], cells), apart]
    pages.splice("docs/sounds.md", "sounds", *blocks, pages.measured_on(results["machine"]))


def _apart(rows: dict[str, Any], trained: Sequence[str], others: Sequence[str], column: str) -> str:
    """How far apart the best of two groups of rows are; an item of a list."""

    def best(names: Sequence[str]) -> tuple[str, dict[str, Any]]:
        found = {name: rows[name]["accuracy"][column] for name in names}
        return max(found.items(), key=lambda item: float(item[1]["mean"]))

    (first, a), (second, b) = best(trained), best(others)
    gap = abs(a["mean"] - b["mean"]) - a["ci95"] - b["ci95"]
    return (
        f"- {column}: the best meta-trained strategy, {first}, differs by "
        f"{100 * (a['mean'] - b['mean']):+.1f} points from the best without meta-training "
        f"({second}); their intervals {'do not overlap' if gap > 0 else 'overlap'}."
    )


BENCHMARK = Benchmark(measure, write, ("docs/sounds.md",), "hours on one core", start={"rows": {}})
