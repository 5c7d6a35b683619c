"""What a contestant is: one unit of work that can be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Problem = dict[str, Tensor]
"""The same data and initial weights (``weights/<name>``) for every contestant, by name."""


@dataclass(frozen=True)
class Work:
    """One unit of work.

    Args:
        run: does it once; returns what must be equal between contestants (the loss), JSON-ready.
        gradient: the gradient that the latest run left, by parameter name.
    """

    run: Callable[[], Any]
    gradient: Callable[[], Mapping[str, Tensor]] = dict


def weights(problem: Problem) -> Problem:
    """The initial weights of the problem's network."""
    prefix = "weights/"
    return {k.removeprefix(prefix): v for k, v in problem.items() if k.startswith(prefix)}


def tasks(problem: Problem) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Each task's support and query: inputs ``[N, *shape]`` and targets ``[N]``."""
    names = ("support_inputs", "support_targets", "query_inputs", "query_targets")
    return list(zip(*(problem[name] for name in names), strict=True))
