"""The rows of a run's metrics, as a tensor for checkpoints and as text for ``metrics.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quickstudy.errors import InputError

Row = dict[str, float | None]

COLUMNS = (
    "step",
    "loss",
    "accuracy",
    "learning_rate",
    "validation_accuracy",
    "validation_ci95",
    "seconds",
)


def as_tensor(rows: Sequence[Row]) -> Tensor:
    """``[R, 7]`` float64, NaN for missing entries."""
    numbers = [[math.nan if (v := row[name]) is None else v for name in COLUMNS] for row in rows]
    return torch.tensor(numbers, dtype=torch.float64).view(-1, len(COLUMNS))


def as_rows(numbers: Tensor) -> list[Row]:
    """The rows that :func:`as_tensor` took.

    Raises:
        ValueError: when the tensor has another shape.
    """
    if numbers.dim() != 2 or numbers.shape[1] != len(COLUMNS):
        raise InputError(f"Metrics have {len(COLUMNS)} columns, not {list(numbers.shape)}.")
    return [
        {k: None if math.isnan(v) else v for k, v in zip(COLUMNS, row, strict=True)}
        for row in numbers.tolist()
    ]


def as_csv(rows: Sequence[Row], header: bool = True) -> str:
    """The lines of ``metrics.csv``; cells without a value are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    if header:
        writer.writeheader()
    writer.writerows({**row, "step": int(row["step"] or 0)} for row in rows)
    return text.getvalue()
