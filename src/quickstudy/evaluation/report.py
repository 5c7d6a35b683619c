"""The results of an evaluation, and its protocol."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.saving.files import write_text_atomically


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with the half-width of its 95 % confidence interval.

    The interval uses Student's t. It covers other episodes of the same classes; tasks of other
    classes can be easier or harder.

    Args:
        mean: over episodes.
        ci95: half-width of the interval; NaN for a single episode.
    """

    mean: float
    ci95: float

    def __str__(self) -> str:
        interval = "" if math.isnan(self.ci95) else f" ± {self.ci95:.2%}"
        return f"{self.mean:.2%}{interval}"


@dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    Args:
        strategy: the strategy's class name.
        data: the data set and split that the classes came from.
        ways: number of classes per episode, or a range.
        shots: number of support examples per class, or a range.
        queries: number of query examples per class; the average if they are unbalanced.
        episodes: number of episodes.
        seed: random seed of the episodes.
        accuracy: accuracy on the queries, over episodes.
        nll: mean negative log-likelihood of the right class, in nats.
        ece: expected calibration error over all queries, 15 bins of equal width.
        transductive: whether a prediction can depend on the other queries.
        normalization: whose statistics the normalisation layers use.
        seconds: duration of the whole evaluation.
        adapt_seconds: adaptation time per episode.
        predict_seconds: prediction time per episode.
        query_balance: "balanced", or "dirichlet" where classes had unequal numbers of queries.
        squared_error: in regression, where accuracy, nll and ece are NaN: the mean over a task's
            queries, over episodes.
        accuracies: ``[episodes]`` float32, the accuracy of each episode, in the order of their
            numbers; None in a report whose file does not hold them.
    """

    strategy: str
    data: str
    ways: int | Sequence[int]
    shots: int | Sequence[int]
    queries: int
    episodes: int
    seed: int
    accuracy: Estimate
    nll: float
    ece: float
    transductive: bool
    normalization: str
    seconds: float
    adapt_seconds: float
    predict_seconds: float
    query_balance: str = "balanced"
    squared_error: Estimate | None = None
    accuracies: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        # JSON has neither numpy's integers nor tuples.
        for name in ("ways", "shots", "queries", "episodes", "seed"):
            object.__setattr__(self, name, _count(getattr(self, name)))

    @property
    def protocol(self) -> str:
        """The kind of task in words, e.g. "5-way 1-shot" or "5-way 1-shot, unbalanced queries"."""
        ways, shots = (
            str(n) if isinstance(n, int) else "-".join(map(str, n)) for n in (self.ways, self.shots)
        )
        if self.squared_error is not None:
            return f"regression, {shots} examples per task"
        unbalanced = "" if self.query_balance == "balanced" else ", unbalanced queries"
        return f"{ways}-way {shots}-shot{unbalanced}"

    def to_dict(self, *, accuracies: bool = False) -> dict[str, Any]:
        """The report, JSON-ready; with each episode's accuracy if ``accuracies`` is true."""
        values = asdict(replace(self, accuracies=None))
        del values["accuracies"]
        if self.squared_error is None:
            del values["squared_error"]
        else:  # NaN is null in JSON
            values |= {"accuracy": None, "nll": None, "ece": None}
        if accuracies and self.accuracies is not None:
            # Nine digits distinguish all float32 numbers.
            each = self.accuracies.float().tolist()
            values["accuracies"] = [float(f"{accuracy:.9g}") for accuracy in each]
        return values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON, with the accuracy of each episode."""
        write_text_atomically(Path(path), as_json(self.to_dict(accuracies=True)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Reads a report that :meth:`save` wrote.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file holds something else.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_dict(values)
        except (ValueError, TypeError, KeyError, IsADirectoryError) as error:
            raise InputError(
                f"{path} is not a report as quickstudy saves them ({error}). Reports are written "
                "by Report.save and by `quickstudy evaluate --report`."
            ) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The report that :meth:`to_dict` described."""
        values = dict(values)
        if values["accuracy"] is None:  # in regression
            values |= {"accuracy": {"mean": math.nan, "ci95": math.nan}}
            values |= {"nll": math.nan, "ece": math.nan}
            values["squared_error"] = Estimate(**values["squared_error"])
        changed: dict[str, Any] = {"accuracy": Estimate(**values["accuracy"])}
        if values.get("accuracies") is not None:
            changed["accuracies"] = torch.tensor(values["accuracies"], dtype=torch.float32)
        return cls(**{**values, **changed})

    def table(self) -> Table:
        """The report as a table for a terminal."""
        counted = f"{self.protocol}, {self.queries} queries a class"
        if self.query_balance != "balanced":
            counted += " on average: each task's classes share them by a Dirichlet draw, α = 2"
        table = Table(title=f"{self.strategy} on {self.data}", show_header=False)
        rows = {
            "protocol": counted,
            "episodes": f"{self.episodes} (seed {self.seed})",
            "accuracy": f"{self.accuracy} (95 % confidence, for other tasks of the same classes)",
            "negative log-likelihood": f"{self.nll:.4f}",
            "expected calibration error": f"{self.ece:.4f}",
            "predictions": "transductive (queries of an episode seen together)"
            if self.transductive
            else "inductive (each query by itself)",
            "normalisation": self.normalization,
            "adaptation": f"{1000 * self.adapt_seconds:.2f} ms an episode",
            "prediction": f"{1000 * self.predict_seconds:.2f} ms an episode",
            "in all": f"{self.seconds:.1f} s",
        }
        if (error := self.squared_error) is not None:
            for name in ("accuracy", "negative log-likelihood", "expected calibration error"):
                del rows[name]
            rows["protocol"] = f"{self.protocol}, {self.queries} queries"
            rows["squared error"] = f"{error.mean:.4g} ± {error.ci95:.4g} (95 % confidence)"
        for name, value in rows.items():
            table.add_row(name, value)
        return table

    def __str__(self) -> str:
        console = Console(width=100, no_color=True)
        with console.capture() as captured:
            console.print(self.table())
        return captured.get().rstrip()


def as_json(values: Any) -> str:
    """Indented JSON with each list of numbers on a single line."""
    text = json.dumps(values, indent=2)
    # JSON strings hold no line break, so the replacement never changes one.
    return re.sub(r"\[\n\s*([^\[\]{}\"]+?)\s*\n\s*\]", _on_one_line, text) + "\n"


def _on_one_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found[1].split())}]"


def _count(value: Any) -> Any:
    """A number, or the ends of a range, as Python's own integers."""
    if isinstance(value, Integral):
        return int(value)
    return tuple(map(int, value)) if isinstance(value, Sequence | np.ndarray) else value
