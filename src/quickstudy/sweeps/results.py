"""The results of a sweep: its table, and the files in its directory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from quickstudy.deprecated import with_present_names
from quickstudy.errors import InputError
from quickstudy.evaluation import Estimate
from quickstudy.saving.description import differences
from quickstudy.saving.files import write_text_atomically
from quickstudy.saving.yaml_text import read_yaml_file
from quickstudy.sweeps.search import TrialState, ranked


class SweepDirectory:
    """The files of a sweep.

    ``sweep.yaml`` (its configuration), ``results.csv``, ``results.json``, and the trials'
    run directories, ``trials/000`` and so on.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self.config = self.path / "sweep.yaml"
        self.csv = self.path / "results.csv"
        self.json = self.path / "results.json"

    def trial(self, number: int) -> Path:
        """The run directory of a trial."""
        return self.path / "trials" / f"{number:03}"

    def begin(self, config: Mapping[str, Any], may_change: Iterable[str]) -> None:
        """Writes the configuration that determines the sweep.

        Raises:
            ValueError: when another sweep was begun here.
        """
        if self.config.exists():
            there = read_yaml_file(self.config, str(self.config))
            if not isinstance(there, dict):
                raise InputError(
                    f"{self.config} should hold a sweep's options; it holds {str(there)[:40]!r}. "
                    "Remove it to begin the sweep anew with the trials that are there."
                )
            ignored = set(may_change)
            old, new = (
                {key: value for key, value in each.items() if key not in ignored}
                for each in (with_present_names(there), config)
            )
            if changed := differences(old, new):
                raise InputError(
                    f"{self.path} holds another sweep. There and here differ: "
                    f"{'; '.join(changed)}. Choose another folder (--out)."
                )
        (self.path / "trials").mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False))

    def write(self, states: Sequence[TrialState], parameters: Sequence[str]) -> None:
        """Writes the results so far, best first."""
        rows = [row_of(state) for state in ranked(states)]
        write_text_atomically(self.json, json.dumps(rows, indent=2) + "\n")
        text = io.StringIO()
        flat = flat_rows(states, parameters)
        writer = csv.DictWriter(text, flat[0])
        writer.writeheader()
        writer.writerows(flat)
        write_text_atomically(self.csv, text.getvalue())


def flat_rows(states: Sequence[TrialState], parameters: Sequence[str]) -> list[dict[str, Any]]:
    """The results as a table with a column for each parameter, best first."""
    rows = []
    for state in ranked(states):
        row = row_of(state)
        number, values = row.pop("trial"), row.pop("values")
        cells = {name: _cell(values[name]) if name in values else None for name in parameters}
        rows.append({"trial": number, **cells, **row})
    return rows


def row_of(state: TrialState) -> dict[str, Any]:
    """The result of one trial, JSON-ready."""
    trial, found = state.trial, state.outcome
    return {
        "trial": trial.number,
        "values": trial.values,
        "accuracy": found.accuracy if found else None,
        "ci95": found.ci95 if found else None,
        "best_step": found.best_step if found else None,
        "steps": found.steps if found else 0,
        "rung": state.rung,
        "seconds": found.seconds if found else 0.0,
        "state": state.status,
        "error": state.error,
        "run": trial.out,
    }


def results_table(states: Sequence[TrialState], parameters: Sequence[str]) -> Table:
    """The results for a terminal, best first."""
    table = Table(title="meta-validation accuracy, mean ± 95 % interval over episodes")
    table.add_column("trial", no_wrap=True)
    for name in parameters:
        last = name.rpartition(".")[2]
        unique = [other.rpartition(".")[2] for other in parameters].count(last) == 1
        table.add_column(last if unique else name, overflow="fold")
    for column in ("accuracy", "steps", "time"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for state in ranked(states):
        found = state.outcome
        table.add_row(
            f"{state.trial.number:03}",
            *(_text(state.trial.values.get(name, "")) for name in parameters),
            accuracy_of(state),
            str(found.steps) if found else "0",
            f"{found.seconds:.0f} s" if found else "",
            state.status,
        )
    return table


def accuracy_of(state: TrialState) -> str:
    """The objective with its interval, if there is one."""
    found = state.outcome
    if found is None or found.accuracy is None or found.ci95 is None:
        return ""
    return str(Estimate(found.accuracy, found.ci95))


def describe_values(values: Mapping[str, Any]) -> str:
    """A trial's values in one line."""
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(_cell(value))


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | float) else json.dumps(value)
