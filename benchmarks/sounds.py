"""Sounds of new classes: words never heard from speakers never heard, and digits of other data.

Meta-trains what configs/dspspeech20 describes, evaluates it beside an untrained encoder and plain
means of log-mels, and writes docs/sounds.md from benchmarks/results/sounds.json. A run that was
stopped goes on; what is there is not done twice.

    QUICKSTUDY_DATA=folder python benchmarks/sounds.py [--table]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from results import EPISODES, ONE_CORE, RESULTS, ROOT, config_digest, machine, percent, train
from torch import Tensor, nn

from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.datasets.sources.class_splits import read_class_splits
from quickstudy.encoders import LogMel
from quickstudy.evaluation import evaluate
from quickstudy.evaluation.outcomes import mean_and_interval
from quickstudy.inputs import AudioInputs, Inputs, inputs_from_dict
from quickstudy.runs import Checkpoint, load
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.description import Description, build
from quickstudy.saving.files import write_text_atomically
from quickstudy.strategies import NearestNeighbor, PrototypicalNetwork, Strategy

PATH = RESULTS / "sounds.json"
PAGE = ROOT / "docs" / "sounds.md"
CONFIGS = ROOT / "configs" / "dspspeech20"
WAYS, SHOTS, MOST_QUERIES = 5, (1, 5), 15
UNTRAINED_SEEDS = 3
UNTRAINED = f"untrained encoder: class means, mean of {UNTRAINED_SEEDS} seeds"
STRETCHES = 8

INTRODUCTION = """# Sounds: words and speakers that are new

Meta-trained on the {training} training words of DSPSpeech-20 (Mandarin and English), spoken by the
{speakers} training speakers; checkpoints are chosen on its validation words. Measured on

- *words*: the {words} test words, spoken by the {test_speakers} test speakers. Neither these words
  nor these voices were heard in training or when encoder and learning rate were chosen (on the
  validation words of the validation speakers);
- *digits*: all {digits} English digits of FSDD, other people and other microphones, read at the
  rate and length of the run.

{episodes} {ways}-way tasks (seed 0), support and queries of any of the speakers,
{queries}.
Accuracy in % with its 95 % confidence interval over tasks. It tells how sure the means of these
words and recordings are, not how other words would do, of which there are few here.
`python benchmarks/sounds.py` trains, measures and writes this page.
"""


class MeanLogMels(nn.Module):
    """Log-mels, the mean over each of some equal stretches of a sound, with nothing learned.

    Args:
        rate: samples a second.
        stretches: of time, each of which has a mean of its own.
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
    """What is measured on, read as the runs read their sounds."""
    heard = load_dataset("dspspeech20", inputs=inputs, where={"speaker": "speakers/test"})
    return {"words": heard.split("words")["test"], "digits": load_dataset("fsdd", inputs=inputs)}


def queries_of(data: ClassDataset, shots: int) -> int:
    """Queries a class: as many as its smallest class has beside its shots, 15 at most."""
    return min(MOST_QUERIES, int(data.sizes.min()) - shots)


def reports_of(strategies: Sequence[Strategy], data: dict[str, ClassDataset]) -> dict[str, Any]:
    """The accuracy in each kind of task, the mean over strategies that differ by a seed."""
    found = {}
    for name, part in data.items():
        for shots in SHOTS:
            queries = queries_of(part, shots)
            reports = [
                evaluate(each, part, ways=WAYS, shots=shots, queries=queries, episodes=EPISODES)
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
    """What needs no training."""
    rows: dict[str, Strategy] = {}
    for stretches in (1, STRETCHES):
        vectors = MeanLogMels(inputs.rate, stretches)
        said = "mean log-mels" if stretches == 1 else f"log-mels, means of {stretches} stretches"
        rows[f"{said}: nearest neighbour"] = NearestNeighbor(vectors)
        rows[f"{said}: class means"] = PrototypicalNetwork(vectors)
    return rows


def measure(results: dict[str, Any]) -> None:
    """Trains and evaluates what is still missing."""
    configs = sorted(CONFIGS.glob("*.yaml"))
    for config in configs:
        if not is_done(results, config.stem, config):
            run = train(config, ONE_CORE)
            trained, progress = load(run), Checkpoint.load(RunDirectory(run).last).progress
            about = {part: progress[part] for part in ("step", "best_step")}
            note(results, config.stem, config, [trained.strategy], trained.inputs, about)
    usual = CONFIGS / "prototypical_network.yaml"
    saved = Checkpoint.load(RunDirectory(train(usual, ONE_CORE)).last)
    inputs = inputs_from_dict(saved.inputs)
    assert isinstance(inputs, AudioInputs)
    if not is_done(results, UNTRAINED, usual):
        seeded = [_built(saved.strategy, seed) for seed in range(UNTRAINED_SEEDS)]
        note(results, UNTRAINED, usual, seeded, inputs)
    for name, strategy in plain(inputs).items():
        if not is_done(results, name, usual):
            note(results, name, usual, [strategy], inputs)


def _built(description: Description, seed: int) -> Strategy:
    torch.manual_seed(seed)
    strategy = build(description)
    assert isinstance(strategy, Strategy)
    return strategy


def is_done(results: dict[str, Any], name: str, config: Path) -> bool:
    """Whether a row is there, of this config."""
    return bool(results["rows"].get(name, {}).get("config_digest") == config_digest(config))


def note(
    results: dict[str, Any],
    name: str,
    config: Path,
    strategies: Sequence[Strategy],
    inputs: Inputs,
    about: dict[str, Any] | None = None,
) -> None:
    """Evaluates a row and keeps it, at once."""
    data = test_data(inputs)
    results["counts"] = counts(data)
    row = {"config_digest": config_digest(config)} | (about or {})
    row["accuracy"] = reports_of(strategies, data)
    results["rows"][name] = row
    write_text_atomically(PATH, json.dumps(results, indent=1) + "\n")
    print(name, row, flush=True)


def counts(data: dict[str, ClassDataset]) -> dict[str, int]:
    """How many words, speakers and digits there are, for the page."""
    folder = Path(os.environ["QUICKSTUDY_DATA"]) / "dspspeech20"
    splits = read_class_splits(folder)
    return {
        "training": len(splits["words"]["train"]),
        "speakers": len(splits["speakers"]["train"]),
        "test_speakers": len(splits["speakers"]["test"]),
        "words": data["words"].classes,
        "digits": data["digits"].classes,
    }


def page(results: dict[str, Any]) -> str:
    """The documentation's page."""
    rows = results["rows"]
    columns = list(next(iter(rows.values()))["accuracy"])
    by_queries: dict[int, list[str]] = {}
    for column in columns:
        queries = next(iter(rows.values()))["accuracy"][column]["queries"]
        by_queries.setdefault(queries, []).append(column)
    most = max(by_queries)
    said = [f"{most} queries a class"]
    said += [
        f"{queries} for {' and '.join(names)}, as there are no more clips"
        for queries, names in by_queries.items()
        if queries != most
    ]
    lines = [
        INTRODUCTION.format(
            **results["counts"], ways=WAYS, episodes=EPISODES, queries=", ".join(said)
        ),
        f"| | {' | '.join(columns)} | training |",
        "| --- |" + " --- |" * (len(columns) + 1),
    ]
    trained = [name for name in rows if "step" in rows[name]]
    others = [name for name in rows if name not in trained]
    for name in trained + others:
        row = rows[name]
        title = f"[{name}](../configs/dspspeech20/{name}.yaml)" if name in trained else name
        cells = [title, *(percent(row["accuracy"][column], 1) for column in columns)]
        cells.append(f"{row['step']} steps" if name in trained else "—")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *[_apart(rows, trained, others, column) for column in columns]]
    return "\n".join([*lines, "", f"Measured on {results['machine']}."]) + "\n"


def _apart(rows: dict[str, Any], trained: Sequence[str], others: Sequence[str], column: str) -> str:
    """Whether the best of two groups of rows have intervals that do not meet; a line of a list."""

    def best(names: Sequence[str]) -> tuple[str, dict[str, Any]]:
        found = {name: rows[name]["accuracy"][column] for name in names}
        return max(found.items(), key=lambda item: float(item[1]["mean"]))

    (first, a), (second, b) = best(trained), best(others)
    gap = abs(a["mean"] - b["mean"]) - a["ci95"] - b["ci95"]
    meet = "do not meet" if gap > 0 else "meet"
    return (
        f"- {column}: {first}, the best that was meta-trained, is "
        f"{100 * (a['mean'] - b['mean']):+.1f} points beside the best that was not ({second}); "
        f"their intervals {meet}."
    )


def main() -> None:
    """Trains, measures and writes, as far as each is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.table and not os.environ.get("QUICKSTUDY_DATA"):
        raise SystemExit("Set QUICKSTUDY_DATA to the folder that holds dspspeech20 and fsdd.")
    results: dict[str, Any] = {"machine": machine(), "rows": {}}
    if PATH.exists():
        results = json.loads(PATH.read_text())
    if not options.table:
        measure(results)
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
