"""``quickstudy demo``: the main job in a few minutes, with nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import accuracies, note, show_table
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.encoders import Conv4
from quickstudy.episodes import EpisodeSampler
from quickstudy.evaluation import Report, evaluate
from quickstudy.evaluation.evaluator import checked_episodes
from quickstudy.evaluation.plots import plot_demo
from quickstudy.evaluation.report import as_json
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.files import check_folder_writable, write_text_atomically
from quickstudy.strategies import NearestNeighbor, PrototypicalNetwork, Strategy
from quickstudy.training import Trainer

PROTOCOLS = ((5, 1), (5, 5), (20, 1))  # ways, shots


def run(given: Given) -> int:
    """Runs the demo; returns the exit code."""
    options = parsed(given)
    checked_episodes(options.episodes)
    out = Path(options.out)
    check_folder_writable(out)

    console = Console(stderr=True)
    console.print("Loading the letters (drawn the first time, which takes a moment) ...")
    parts = load_dataset("glyphs").split()  # nosec B615 # drawn, not downloaded
    for part in parts.values():
        console.print(f"  {part}", highlight=False)

    torch.manual_seed(0)
    untrained = PrototypicalNetwork(Conv4())
    torch.manual_seed(0)
    strategy = PrototypicalNetwork(Conv4())
    trainer = Trainer(
        ways=20,
        shots=1,
        queries=5,
        support_rotations=6,
        steps=options.steps,
        max_minutes=options.max_minutes,
        schedule="cosine",
        validate_every=100,
        validation_episodes=100,
    )
    has_run = RunDirectory(out / "run").holds_a_run()
    if has_run:
        console.print(f"Using the run in {out / 'run'}; remove that folder to train afresh.")
    run = trainer.fit(
        strategy, parts["train"], parts["validation"], out=out / "run", resume=has_run
    )
    if not run.progress["finished"]:
        return 130
    contenders: dict[str, Strategy] = {
        "trained": strategy,
        "untrained": untrained,
        "pixels, nearest neighbour": NearestNeighbor(),
    }
    reports = {
        name: _measure(each, parts["test"], options.episodes) for name, each in contenders.items()
    }
    results = {
        name: [report.to_dict(accuracies=True) for report in own] for name, own in reports.items()
    }
    write_text_atomically(out / "results.json", as_json(results))
    episode = EpisodeSampler(parts["test"], ways=5, shots=1, queries=6, seed=3).episode(0)
    plot_demo(strategy, episode, reports, {"trained": run.history}, out / "demo.png")
    try:
        records = [{"strategy": name, **accuracies(own)} for name, own in reports.items()]
        show_table(records, json=options.json, table=_table(reports))
    finally:
        note(_places(out))
    return 0


def _places(out: Path) -> str:
    return f"Picture: {out / 'demo.png'}\nNumbers: {out / 'results.json'}\nRun:     {out / 'run'}"


def _measure(strategy: Strategy, data: ClassDataset, episodes: int) -> list[Report]:
    return [
        evaluate(strategy, data, ways=ways, shots=shots, episodes=episodes, progress=True)
        for ways, shots in PROTOCOLS
    ]


def _table(reports: dict[str, list[Report]]) -> Table:
    first = next(iter(reports.values()))
    title = f"Accuracy on scripts never seen, {first[0].episodes} tasks, ± 95 % interval"
    table = Table(title=title)
    table.add_column("")
    for report in first:
        table.add_column(report.protocol, justify="right")
    for name, own in reports.items():
        table.add_row(name, *(str(report.accuracy) for report in own))
    return table
