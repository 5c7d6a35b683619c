"""``quickstudy sweep``: many runs that differ in some parameters, best first."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from quickstudy.cli.options import (
    DERIVED_FOR_ENCODER,
    DERIVED_FOR_STRATEGY,
    plain,
    training_parser,
)
from quickstudy.cli.output import complain, say, show
from quickstudy.cli.parsing import CLASS_OPTIONS, parse
from quickstudy.cli.running import add_running_options, alone, check_storage, executor, output_to
from quickstudy.cli.train import data_from_anywhere, train
from quickstudy.errors import InputError
from quickstudy.messages import UsageError, did_you_mean
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.description import described_class
from quickstudy.saving.directory_lock import locked
from quickstudy.saving.trust import check_config
from quickstudy.saving.yaml_text import read_yaml
from quickstudy.sweeps.executors import Executor
from quickstudy.sweeps.halving import Rung, halving_rungs
from quickstudy.sweeps.results import (
    SweepDirectory,
    accuracy_of,
    describe_values,
    results_table,
)
from quickstudy.sweeps.search import Standing, ranked, search
from quickstudy.sweeps.space import Values, distinct, draws, grid, read_space
from quickstudy.sweeps.trial import Outcome, Trial, outcome

DESCRIPTION = (
    "Train runs that differ in some parameters, and rank them by their accuracy on the "
    "meta-validation classes. Before the options, parameters may be named with their values "
    "(learning_rate=0.001,0.01) or with a range ('learning_rate={log_uniform: [1e-4, 1e-2]}'); "
    "in a configuration the section `sweep` does so. A sweep that was stopped goes on when it is "
    "started again. Its directory holds the table of results, and a run directory for each trial."
)
MAY_CHANGE = {"show_progress", "accelerator", "tasks_at_once"}
"""Between the starts of one sweep; and the number of random trials, which may grow."""

TEST_HINT = (
    "Its accuracy is the highest of many on the same classes, so somewhat too high. On classes "
    "never used:"
)


def run(words: Sequence[str]) -> int:
    """Sweeps; returns the exit code."""
    named = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    rest = list(words[len(named) :])
    parser = _parser()
    base = parse(parser, rest)
    alone(base, "sweep", "trials")
    if base.validation_part is None:
        raise UsageError(
            "A sweep ranks trials by their accuracy on meta-validation classes: name the part of "
            "the split that has them (--validation_part)."
        )
    written = plain(base.sweep or {})
    for name, entry in written.items():  # of a file: what it names is not what somebody typed
        check_config("The section `sweep`", {name: entry})
    space = read_space(written | dict(map(_read_word, named)))
    _check_names(space, base)
    directory = SweepDirectory(base.out)
    runner = executor(base)
    values = _values(space, base, parser)
    trials = [
        Trial(
            number,
            own,
            str(directory.trial(number)),
            _options(parser, rest, own),
            log=runner.side_by_side,
        )
        for number, own in enumerate(values)
    ]
    rungs = _rungs(base, len(trials))
    with locked(directory.path):
        may_grow = {"trials"} if base.search == "random" else set()
        directory.begin(_config(base, space), MAY_CHANGE | may_grow)
        return _search(directory, trials, rungs, runner, list(space))


def _search(
    directory: SweepDirectory,
    trials: Sequence[Trial],
    rungs: Sequence[Rung],
    runner: Executor,
    parameters: list[str],
) -> int:
    """Trains the trials and writes what was found; returns the exit code."""

    def tell(standings: Sequence[Standing], changed: Standing) -> None:
        directory.write(standings, parameters)
        about = f"trial {changed.trial.number:03} ({describe_values(changed.trial.values)})"
        steps = changed.outcome.steps if changed.outcome else 0
        said = changed.error or f"{accuracy_of(changed)} after {steps} steps"
        complain(f"{about}: {said}")

    complain(f"{len(trials)} trials, in {directory.path}.")
    try:
        standings, complete = search(trials, rungs, runner, train_trial, _recall, tell)
    except KeyboardInterrupt:
        complete = False
    if not complete:
        complain("Stopped. Run the same command again to continue.")
        return 130
    directory.write(standings, parameters)
    return _say(standings, parameters, directory)


def train_trial(trial: Trial) -> Outcome:
    """Trains a trial from where it stands, as far as it says."""
    out = Path(trial.out)
    check_storage(out)
    with output_to(out / "output.log" if trial.log else None):
        resume = RunDirectory(out).holds_a_run()
        train(trial.options, out, resume=resume, until=trial.until)
    found = outcome(out, trial.until)
    assert found is not None  # training saves at its end
    if found.reached and found.accuracy is None:
        raise InputError(
            f"The split has no part {trial.options.validation_part!r} to rank trials by: choose a "
            "split with meta-validation classes, or name its part (--validation_part)."
        )
    if trial.log and not found.reached:
        raise InputError(f"Stopped by a signal after step {found.steps}; start the sweep again.")
    return found


def _recall(trial: Trial) -> Outcome | None:
    return outcome(trial.out, trial.until)


def _parser() -> ArgumentParser:
    parser = training_parser("sweep [NAME=VALUES ...]", DESCRIPTION)
    parser.add_argument("--out", type=str, default="runs/sweep", help="the sweep's directory")
    group = parser.add_argument_group("the search")
    group.add_argument(
        "--sweep", type=dict[str, Any] | None, help="parameters, and their values or ranges"
    )
    group.add_argument(
        "--search",
        type=Literal["grid", "random", "halving"],
        default="grid",
        help="all combinations; random ones; or many for few steps, and the best for more",
    )
    group.add_argument(
        "--trials",
        type=int | None,
        help="random trials (seed: --seed); halving takes the grid where it is not given",
    )
    group.add_argument("--eta", type=int, default=3, help="halving keeps one trial of so many")
    group.add_argument("--rungs", type=int | None, help="of halving; by default down to one trial")
    add_running_options(parser)
    return parser


def _read_word(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    name = name.replace("-", "_")
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
    defaults = training_parser("train", "").get_defaults().keys()
    known = {*CLASS_OPTIONS, *(key.partition(".")[0] for key in defaults)} - {"config"}
    for name in space:
        first = name.partition(".")[0]
        if first not in known:
            hint = did_you_mean(first, known)
            raise UsageError(f"The sweep names {name!r}, which is not an option of a run.{hint}")
        if base.search == "halving" and first in ("steps", "max_minutes"):
            raise UsageError(
                f"Halving sets how long trials train, so a sweep with it cannot vary {first}."
            )


def _values(space: dict[str, Any], base: Namespace, parser: ArgumentParser) -> list[Values]:
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
    def arguments(option: str, description: str | None) -> frozenset[str]:
        words = [] if description is None else [f"--{option}={description}"]
        named = plain(parse(parser, words)[option] if words else base[option])
        return frozenset(inspect.signature(described_class(named)).parameters if named else ())

    def applies(name: str, values: Values) -> bool:
        option, _, argument = name.partition(".")
        if option not in CLASS_OPTIONS or not argument:
            return True
        chosen = _word(values[option]) if option in values else None
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


def _options(parser: ArgumentParser, rest: list[str], values: Values) -> Namespace:
    """The options of a trial: those of the sweep, overruled by the trial's values."""
    classes_first = sorted(values, key=lambda name: name not in CLASS_OPTIONS)
    words = [f"--{name}={_word(values[name])}" for name in classes_first]
    options = parse(parser, [*rest, *words])
    options.data = data_from_anywhere(options.data)
    if options.start_from and Path(options.start_from).exists():
        options.start_from = str(Path(options.start_from).resolve())
    return options


def _word(value: Any) -> str:
    if isinstance(value, dict) and value.get("init_args"):  # the parser filled in what is derived
        derived = DERIVED_FOR_STRATEGY | DERIVED_FOR_ENCODER
        kept = {name: own for name, own in value["init_args"].items() if name not in derived}
        value = value | {"init_args": kept}
    return value if isinstance(value, str) else json.dumps(value)


def _rungs(base: Namespace, trials: int) -> list[Rung]:
    if base.search != "halving":
        return [Rung(trials, None)]
    if base.max_minutes is not None:
        raise UsageError("Halving counts steps: leave --max_minutes out and give --steps.")
    return halving_rungs(trials, base.steps, base.eta, base.rungs)


def _config(base: Namespace, space: dict[str, Any]) -> dict[str, Any]:
    """What the sweep is a function of."""
    elsewhere = {"config", "trust", "out", "jobs", "ray", "cpus", "gpus"}
    config = {key: value for key, value in plain(base).items() if key not in elsewhere}
    config["data"] = data_from_anywhere(base.data)
    config["sweep"] = {
        name: list(entry) if isinstance(entry, tuple) else {entry.kind: [entry.low, entry.high]}
        for name, entry in space.items()
    }
    return config


def _say(standings: list[Standing], parameters: list[str], directory: SweepDirectory) -> int:
    try:
        show(results_table(standings, parameters))
    finally:
        for standing in standings:
            if standing.error:
                say(f"Trial {standing.trial.number:03} failed: {standing.error}")
        say(f"Written to {directory.csv} and {directory.json}.")
    best = ranked(standings)[0]
    if best.score is None:
        complain("quickstudy: every trial failed.")
        return 1
    say(f"Best is trial {best.trial.number:03}. {TEST_HINT}")
    say(f"quickstudy evaluate {best.trial.out}")
    return 0
