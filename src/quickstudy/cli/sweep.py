"""``quickstudy sweep``: many runs that differ in some parameters, best first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from quickstudy.cli.classes import DERIVED, argument_names, find_class, joined
from quickstudy.cli.command import Base
from quickstudy.cli.output import complain
from quickstudy.cli.parsing import parsed, plain
from quickstudy.cli.reading import Given
from quickstudy.cli.running import alone, check_storage, executor, output_to
from quickstudy.cli.tables import note, show_table
from quickstudy.cli.train import data_from_anywhere, train
from quickstudy.cli.usage.training import TRAIN
from quickstudy.deprecated import FORMER_OPTIONS
from quickstudy.errors import InputError
from quickstudy.messages import UsageError, did_you_mean
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.directory_lock import locked
from quickstudy.saving.trust import check_config
from quickstudy.saving.yaml_text import read_yaml
from quickstudy.sweeps.executors import Executor
from quickstudy.sweeps.halving import Rung, halving_rungs
from quickstudy.sweeps.results import (
    SweepDirectory,
    accuracy_of,
    describe_values,
    flat_rows,
    results_table,
    row_of,
)
from quickstudy.sweeps.search import TrialState, ranked, search
from quickstudy.sweeps.space import Values, distinct, draws, grid, read_space
from quickstudy.sweeps.trial import Outcome, Trial, outcome

MAY_CHANGE = {"show_progress", "accelerator", "tasks_at_once"}
"""Between the starts of one sweep; and the number of random trials, which may grow."""

TEST_HINT = (
    "Its accuracy is the highest of many on the same classes, so somewhat too high. On classes "
    "never used:"
)


def run(given: Given) -> int:
    """Sweeps; returns the exit code."""
    base = parsed(given)
    alone(base, "sweep", "trials")
    if base.validation_split is None:
        raise UsageError(
            "A sweep ranks trials by their accuracy on meta-validation classes: name the part of "
            "the split that has them (--validation-split)."
        )
    written = plain(base.sweep or {})
    for name, entry in written.items():  # of a file: what it names is not what somebody typed
        check_config("The section `sweep`", {name: entry})
    space = read_space(written | dict(map(_read_word, given.arguments)))
    _check_names(space, base)
    directory = SweepDirectory(base.out)
    runner = executor(base)
    values = _values(space, base)
    trials = [
        Trial(
            number,
            own,
            str(directory.trial(number)),
            _options(given, own),
            log=runner.side_by_side,
        )
        for number, own in enumerate(values)
    ]
    rungs = _rungs(base, len(trials))
    with locked(directory.path):
        may_grow = {"trials"} if base.search == "random" else set()
        directory.begin(_config(base, space), MAY_CHANGE | may_grow)
        return _search(directory, trials, rungs, runner, list(space), base.json)


def _search(
    directory: SweepDirectory,
    trials: Sequence[Trial],
    rungs: Sequence[Rung],
    runner: Executor,
    parameters: list[str],
    json: bool,
) -> int:
    """Trains the trials and writes what was found; returns the exit code."""

    def report(states: Sequence[TrialState], changed: TrialState) -> None:
        directory.write(states, parameters)
        about = f"trial {changed.trial.number:03} ({describe_values(changed.trial.values)})"
        steps = changed.outcome.steps if changed.outcome else 0
        said = changed.error or f"{accuracy_of(changed)} after {steps} steps"
        complain(f"{about}: {said}")

    complain(f"{len(trials)} trials, in {directory.path}.")
    try:
        states, complete = search(trials, rungs, runner, train_trial, _lookup, report)
    except KeyboardInterrupt:
        complete = False
    if not complete:
        complain("Stopped. Run the same command again to continue.")
        return 130
    directory.write(states, parameters)
    return _say(states, parameters, directory, json)


def train_trial(trial: Trial) -> Outcome:
    """Trains a trial from its last checkpoint up to its ``until``."""
    out = Path(trial.out)
    check_storage(out)
    with output_to(out / "output.log" if trial.log else None):
        resume = RunDirectory(out).holds_a_run()
        train(trial.options, out, resume=resume, until=trial.until)
    found = outcome(out, trial.until)
    assert found is not None  # training saves at its end
    if found.reached and found.accuracy is None:
        raise InputError(
            f"There is no split {trial.options.validation_split!r} to rank trials by: choose "
            "data with meta-validation classes, or name them (--validation-split)."
        )
    if trial.log and not found.reached:
        raise InputError(f"Stopped by a signal after step {found.steps}; start the sweep again.")
    return found


def _lookup(trial: Trial) -> Outcome | None:
    return outcome(trial.out, trial.until)


def _read_word(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    name = name.replace("-", "_")
    name = FORMER_OPTIONS.get(name, name)
    entry = read_yaml(text, f"What {name!r} is given")
    if not isinstance(entry, list | dict):
        parts = [part for part in text.split(",") if part.strip()]
        entry = [read_yaml(part, f"What {name!r} is given") for part in parts]
    if not equals or not entry:
        raise UsageError(
            f"{word!r} names no values to try; expected NAME=VALUES, as in "
            "learning_rate=0.001,0.01 or strategy=PrototypicalNetwork,MAML."
        )
    return name, entry


def _check_names(space: Iterable[str], base: Namespace) -> None:
    known = {each.name.partition(".")[0] for each in TRAIN} - {"config", "out", "resume"}
    for name in space:
        first = name.partition(".")[0]
        if first not in known:
            hint = did_you_mean(first, known)
            raise UsageError(f"The sweep names {name!r}, which is not an option of a run.{hint}")
        if base.search == "halving" and first in ("steps", "max_minutes"):
            raise UsageError(
                f"Halving sets how long trials train, so a sweep with it cannot vary {first}."
            )


def _values(space: dict[str, Any], base: Namespace) -> list[Values]:
    """Each trial's values, without those that its strategy or encoder has no argument for."""
    if base.trials is not None and base.trials < 1:
        raise UsageError(f"{base.trials} trials were requested; expected at least 1.")
    if base.search == "grid" and base.trials is not None:
        raise UsageError(
            "A grid tries all combinations, so --trials does not go with it. Draw some of them "
            "with --search random."
        )
    if base.search == "random" and base.trials is None:
        raise UsageError("Give the number of random trials to draw, as in --trials 20.")

    @cache
    def arguments(option: Base, chosen: str | None) -> frozenset[str]:
        named = joined(None, "", chosen) if chosen else plain(base[option])
        if not named:
            return frozenset()
        return frozenset(argument_names(find_class(option, option, named["class_path"])))

    def applies(name: str, values: Values) -> bool:
        option, _, argument = name.partition(".")
        if not argument or option not in DERIVED:
            return True
        chosen = json.dumps(values[option]) if option in values else None
        return argument.partition(".")[0] in arguments(option, chosen)

    def applicable(values: Values) -> Values:
        return {name: value for name, value in values.items() if applies(name, values)}

    candidates = grid(space) if base.trials is None else draws(space, base.seed)
    found = distinct(candidates, applicable, base.trials)
    for name in space:
        if not any(name in values for values in found):
            option = name.partition(".")[0]
            raise UsageError(
                f"The sweep varies {name}, which is no argument of any {option} in it"
                f"{' (name the encoder too: --encoder)' if option == 'encoder' else ''}."
            )
    return found


def _options(given: Given, values: Values) -> Namespace:
    """The options of a trial: the options of the sweep, overridden by the trial's values."""
    options = parsed(replace(given, options={**given.options, **values}))
    options.data = data_from_anywhere(options.data)
    if options.start_from and Path(options.start_from).exists():
        options.start_from = str(Path(options.start_from).resolve())
    return options


def _rungs(base: Namespace, trials: int) -> list[Rung]:
    if base.search != "halving":
        return [Rung(trials, None)]
    if base.max_minutes is not None:
        raise UsageError("Halving counts steps: leave --max-minutes out and give --steps.")
    return halving_rungs(trials, base.steps, base.eta, base.rungs)


def _config(base: Namespace, space: dict[str, Any]) -> dict[str, Any]:
    """The configuration that determines the sweep."""
    elsewhere = {"config", "json", "trust", "out", "jobs", "ray", "cpus", "gpus"}
    config = {key: value for key, value in plain(base).items() if key not in elsewhere}
    config["data"] = data_from_anywhere(base.data)
    config["sweep"] = {
        name: list(entry) if isinstance(entry, tuple) else {entry.kind: [entry.low, entry.high]}
        for name, entry in space.items()
    }
    return config


def _say(
    states: list[TrialState], parameters: list[str], directory: SweepDirectory, json: bool
) -> int:
    try:
        show_table(
            flat_rows(states, parameters),
            json=json,
            whole=[row_of(state) for state in ranked(states)],
            table=results_table(states, parameters),
        )
    finally:
        for state in states:
            if state.error:
                note(f"Trial {state.trial.number:03} failed: {state.error}")
        note(f"Written to {directory.csv} and {directory.json}.")
    best = ranked(states)[0]
    if best.score is None:
        complain("quickstudy: every trial failed.")
        return 1
    note(f"Best is trial {best.trial.number:03}. {TEST_HINT}")
    note(f"quickstudy evaluate {best.trial.out}")
    return 0
