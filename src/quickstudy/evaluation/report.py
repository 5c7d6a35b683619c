"""What an evaluation found, and under which protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import Tensor

from quickstudy.files import write_text_atomically


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes with the half-width of its 95 % confidence interval."""

    mean: float
    ci95: float

    def __str__(self) -> str:
        return f"{self.mean:.2%} ± {self.ci95:.2%}"


@dataclass(frozen=True)
class Report:
    """The result of an evaluation.

    Args:
        strategy: the strategy's class name.
        data: the data set and part that the classes came from.
        ways: classes in an episode, or a range.
        shots: support examples a class, or a range.
        queries: query examples a class; on average, where they are unbalanced.
        episodes: the number of episodes.
        seed: of the episodes.
        accuracy: of the queries, over episodes.
        nll: mean negative log-likelihood of the right class, in nats.
        ece: expected calibration error over all queries, 15 bins of equal width.
        transductive: whether a prediction may depend on the other queries.
        normalization: whose statistics the normalisation layers use.
        seconds: of the whole evaluation.
        adapt_seconds: of adaptation, an episode.
        predict_seconds: of prediction, an episode.
        query_balance: "balanced", or "dirichlet" where classes had unequal numbers of queries.
        accuracies: ``[episodes]``, each episode's accuracy; not written to files.
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
    accuracies: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def protocol(self) -> str:
        """The kind of task in words, e.g. "5-way 1-shot" or "5-way 1-shot, unbalanced queries"."""
        ways, shots = (
            str(n) if isinstance(n, int) else "-".join(map(str, n)) for n in (self.ways, self.shots)
        )
        unbalanced = "" if self.query_balance == "balanced" else ", unbalanced queries"
        return f"{ways}-way {shots}-shot{unbalanced}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the episodes' own accuracies, JSON-ready."""
        values = asdict(self)
        del values["accuracies"]
        return values

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON."""
        write_text_atomically(Path(path), json.dumps(self.to_dict(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Reads a report that :meth:`save` wrote."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**values | {"accuracy": Estimate(**values["accuracy"])})

    def table(self) -> Table:
        """The report as a table for a terminal."""
        counted = f"{self.protocol}, {self.queries} queries a class"
        if self.query_balance != "balanced":
            counted += " on average: each task's classes share them by a Dirichlet draw, α = 2"
        table = Table(title=f"{self.strategy} on {self.data}", show_header=False)
        rows = {
            "protocol": counted,
            "episodes": f"{self.episodes} (seed {self.seed})",
            "accuracy": f"{self.accuracy} (95 % confidence)",
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
        for name, value in rows.items():
            table.add_row(name, value)
        return table

    def __str__(self) -> str:
        console = Console(width=100, no_color=True)
        with console.capture() as captured:
            console.print(self.table())
        return captured.get().rstrip()
