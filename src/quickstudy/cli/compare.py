"""``quickstudy compare``: several strategies under one budget."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.table import Table

from quickstudy.cli.options import (
    WHICH_DATA,
    check_counts,
    choose_part,
    load_split,
    same_place,
)
from quickstudy.cli.output import complain
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.running import alone, check_storage, executor, output_to
from quickstudy.cli.tables import accuracies, note, show_table
from quickstudy.cli.train import data_from_anywhere, train
from quickstudy.counts import Count
from quickstudy.datasets import ClassDataset
from quickstudy.episodes.defaults import DEFAULT_WAYS
from quickstudy.errors import InputError, MissingFileError
from quickstudy.evaluation import Report, evaluate
from quickstudy.evaluation.evaluator import checked_episodes
from quickstudy.evaluation.plots import plot_comparison
from quickstudy.evaluation.protocol import Protocol
from quickstudy.evaluation.report import as_json
from quickstudy.messages import UsageError
from quickstudy.runs.run import Run, RunDirectory, load
from quickstudy.saving.description import differences
from quickstudy.saving.directory_lock import locked
from quickstudy.saving.files import write_text_atomically
from quickstudy.sweeps.executors import Executor

DEFAULT_TEST_SHOTS = (1, 5)
UNLIMITED_STEPS = 10**9


def run(given: Given) -> int:
    """Compares; returns the exit code."""
    contenders = list(given.arguments)
    if not contenders:
        parsed(given)  # --print-config ends here
        raise UsageError(
            "Name the strategies or runs to compare: "
            "quickstudy compare PrototypicalNetwork MAML --max-minutes 2."
        )
    names = _names(contenders)
    typed = given.options
    if "max_minutes" in typed:
        typed.setdefault("steps", UNLIMITED_STEPS)  # the time is the budget then
    runs = {
        name: load(contender)
        for name, contender in zip(names, contenders, strict=True)
        if _is_run(contender)
    }
    names_data = "data" in typed or "config" in typed
    data = _data_of(runs, parsed(given).data if names_data else None)
    options = {
        name: parsed(replace(given, options=_with(typed, contender)), data)
        for name, contender in zip(names, contenders, strict=True)
    }
    for name, own in options.items():
        alone(own, "compare")
        check_counts(own, episodes=2, test_ways=1, test_queries=1)
        own.data = data_from_anywhere(own.data)
        if name in runs:
            own.ways = runs[name].config.get("ways", DEFAULT_WAYS)
    if runs:  # the same seed, so that the tasks are the same
        fewest = min((own.ways for own in options.values()), key=_most)
        for name in runs:
            options[name].ways = fewest
    first = next(iter(options.values()))
    _check_test(first, runs.get(next(iter(options))))
    runner = executor(first)
    Path(first.out).mkdir(parents=True, exist_ok=True)
    contestants = []
    for (name, own), contender in zip(options.items(), contenders, strict=True):
        out = Path(own.out, name.strip("./").replace("/", "-"))
        place = out.resolve() if runner.side_by_side else out  # other processes may start elsewhere
        run = str(Path(contender).resolve()) if name in runs else None
        contestants.append(Contestant(own, str(place), runner.side_by_side, run))
    with locked(Path(first.out)):
        return _measure(names, contestants, runner, Path(first.out), first.json)


def _check_test(options: Namespace, run: Run | None) -> None:
    """Refuses what the test after all training would refuse (ValueError)."""
    checked_episodes(options.episodes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loading them for training says the same
        choose_part(load_split(options, run.inputs if run else None), options.test_split)


def _measure(
    names: list[str], contestants: list[Contestant], runner: Executor, out: Path, json: bool
) -> int:
    """Trains and tests the contestants and writes the comparison; returns the exit code."""
    measured: dict[str, Measured] = {}
    for number, found in runner.run(train_and_test, contestants):
        if isinstance(found, Exception):
            raise InputError(f"{names[number]}: {found}") if runner.side_by_side else found
        if not found.reports:
            return 130
        measured[names[number]] = found
        if runner.side_by_side:
            complain(f"{names[number]}: {found.reports[0].accuracy}")
    _write({name: measured[name] for name in names}, out, json)
    return 0


@dataclass(frozen=True)
class Contestant:
    """A strategy to train and test, with its folder, or a finished run that is only tested."""

    options: Namespace
    out: str
    log: bool
    run: str | None = None


@dataclass(frozen=True)
class Measured:
    """The results of a contestant's training and tests; no reports if it was stopped."""

    reports: list[Report]
    progress: dict[str, Any]
    history: list[dict[str, float | None]]


def train_and_test(contestant: Contestant) -> Measured:
    """Trains one contestant from its last checkpoint, and tests it."""
    out = Path(contestant.out)
    check_storage(out)
    with output_to(out / "output.log" if contestant.log else None):
        if contestant.run is not None:
            trained = load(contestant.run)
            return Measured(_test(trained, contestant.options), trained.progress, trained.history)
        trained = train(contestant.options, out, resume=RunDirectory(out).holds_a_run())
        finished = trained.progress["finished"]
        reports = _test(trained, contestant.options) if finished else []
    return Measured(reports, trained.progress, trained.history)


def _is_run(contender: str) -> bool:
    return Path(contender).exists() and not contender.endswith((".yaml", ".yml"))


def _most(ways: Count) -> int:
    return ways if isinstance(ways, int) else ways[1]


def _data_of(runs: Mapping[str, Run], data: str | None) -> dict[str, Any] | None:
    """The data and split that the runs were trained on, unless the options name others.

    Raises:
        UsageError: no data are named, and the runs used different data or do not record them.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        own = {key: run.config.get(key) for key in WHICH_DATA}
        if data is None or same_place(data, own["data"]):
            found[name] = {key: value for key, value in own.items() if value is not None}
    if not runs or (data is not None and not found):
        return None
    name, first = next(iter(found.items()))
    if "data" not in first:
        raise UsageError(
            f"{name} does not record which data it was trained on; name the data with --data."
        )
    for other, own in found.items():
        if own != first and data is None:
            raise UsageError(
                f"{name} and {other} were trained on different data or on different splits "
                f"({'; '.join(differences(first, own))}). Choose what to compare on with --data "
                "and --split."
            )
    return first


def _with(typed: dict[str, Any], contender: str) -> dict[str, Any]:
    """What was typed for all contenders, and this one's own options, which it overrides."""
    if _is_run(contender):
        return typed
    if contender.endswith((".yaml", ".yml")):
        if not Path(contender).is_file():
            raise MissingFileError(f"There is no configuration file {contender}.")
        return {**typed, "config": [contender, *typed.get("config", ())]}
    return {"strategy": contender, **typed}


def _names(contenders: list[str]) -> list[str]:
    names = [Path(c).stem if c.endswith((".yaml", ".yml")) else c for c in contenders]
    last = [Path(name).name if _is_run(name) else name for name in names]
    names = last if len(set(last)) == len(last) else names
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(
            f"Two contenders are called {twice[0]!r}. Give each variant a YAML file of its own."
        )
    return names


def _test(trained: Run, options: Namespace) -> list[Report]:
    part = choose_part(load_split(options, trained.inputs), options.test_split)
    reports = []
    for shots in options.test_shots or _default_shots(part):
        protocol = Protocol.suited(
            trained.strategy, part, options.test_ways, shots, options.test_queries, options.ways
        )
        reports.append(
            evaluate(
                trained,
                part,
                ways=protocol.ways,
                shots=protocol.shots,
                queries=protocol.queries,
                episodes=options.episodes,
                progress=True,
            )
        )
    return reports


def _default_shots(part: ClassDataset) -> list[int]:
    """1 and 5, or only 1 if a class has too few examples for 5 and a query."""
    return [shots for shots in DEFAULT_TEST_SHOTS if shots < int(part.sizes.min())] or [1]


def _write(measured: dict[str, Measured], out: Path, json: bool) -> None:
    reports = {name: own.reports for name, own in measured.items()}
    ranking = sorted(reports, key=lambda name: -reports[name][0].accuracy.mean)
    first = reports[ranking[0]]
    table = Table(title=f"{first[0].data}, {first[0].episodes} episodes, mean ± 95 % interval")
    table.add_column("strategy", no_wrap=True)
    for report in first:
        table.add_column(report.protocol, justify="right")
    for column in ("trained in", "a task takes"):
        table.add_column(column, justify="right")
    for name in ranking:
        own, progress = reports[name], measured[name].progress
        task_seconds = own[0].adapt_seconds + own[0].predict_seconds
        table.add_row(
            f"{name} (transductive)" if own[0].transductive else name,
            *(str(report.accuracy) for report in own),
            f"{progress['seconds']:.0f} s",
            f"{1000 * task_seconds:.1f} ms",
        )
    results: list[dict[str, Any]] = [
        {
            "name": name,
            "training_seconds": measured[name].progress["seconds"],
            "steps": measured[name].progress["step"],
            "reports": [report.to_dict(accuracies=True) for report in reports[name]],
        }
        for name in ranking
    ]
    records = [
        {
            "strategy": name,
            **accuracies(reports[name]),
            "training_seconds": measured[name].progress["seconds"],
            "steps": measured[name].progress["step"],
        }
        for name in ranking
    ]
    write_text_atomically(out / "comparison.json", as_json(results))
    plot_comparison(
        {name: reports[name] for name in ranking},
        {name: measured[name].history for name in ranking},
        out / "comparison.png",
    )
    try:
        show_table(records, json=json, table=table)
    finally:
        note(f"Written to {out / 'comparison.json'} and {out / 'comparison.png'}.")
