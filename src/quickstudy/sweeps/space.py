"""The search space: parameters with their possible values, and how trials are drawn."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quickstudy.errors import InputError
from quickstudy.messages import UsageError

Values = dict[str, Any]
"""Name and value of each parameter of a trial."""

KINDS = ("uniform", "log_uniform", "integers")
MOST_TRIALS = 10_000
DRAWS_A_TRIAL = 100
"""Number of fruitless draws after which a space counts as exhausted."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn at random.

    Args:
        kind: "uniform", "log_uniform" (the logarithm is uniform), or "integers" (both ends
            included, all as likely).
        low: the least.
        high: the greatest.
    """

    kind: str
    low: float
    high: float

    def draw(self, generator: np.random.Generator) -> float:
        """One number."""
        if self.kind == "integers":
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "log_uniform":
            number = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        else:
            number = float(generator.uniform(self.low, self.high))
        return min(max(number, self.low), self.high)


Space = dict[str, "tuple[Any, ...] | Range"]
"""Each parameter's name, and its values or its range."""


def read_space(section: Mapping[str, Any]) -> Space:
    """The space that a configuration's section describes.

    ``learning_rate: [0.001, 0.01]`` lists values; ``learning_rate: {log_uniform: [0.0001, 0.01]}``
    gives a range, of one of the kinds of :class:`Range`. Names are the options of a training run.
    ``strategy.init_args.inner_steps`` and ``strategy.inner_steps`` are the same.

    Raises:
        ValueError: saying which parameter cannot be read, and what was expected.
    """
    space: Space = {}
    for written, entry in section.items():
        name = written.replace(".init_args.", ".")
        if name in space:
            raise InputError(f"The sweep names {name} twice.")
        space[name] = _read_entry(name, entry)
    if not space:
        raise UsageError(
            "The sweep varies nothing. Name parameters and their values, in the configuration as "
            "`sweep: {learning_rate: [0.001, 0.01]}`, or before the options as "
            "learning_rate=0.001,0.01."
        )
    return space


def _read_entry(name: str, entry: Any) -> tuple[Any, ...] | Range:
    if isinstance(entry, list | tuple) and len(entry):
        return tuple(number_or_same(value) for value in entry)
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((kind, ends),) = entry.items()
        if kind in KINDS and isinstance(ends, list | tuple) and len(ends) == 2:
            return _read_range(name, kind, *(number_or_same(end) for end in ends))
    raise InputError(
        f"The sweep's {name} is {entry!r}; expected a list of values, as in [1, 5], or a range, as "
        f"in {{log_uniform: [0.0001, 0.01]}} ({', '.join(KINDS)})."
    )


def _read_range(name: str, kind: str, low: Any, high: Any) -> Range:
    number = int if kind == "integers" else (int, float)
    both = all(isinstance(x, number) and not isinstance(x, bool) for x in (low, high))
    positive = kind != "log_uniform"
    if not both or not low < high or not (positive or low > 0):
        wanted = "two integers" if kind == "integers" else "two numbers"
        above = "" if positive else ", both more than 0"
        raise InputError(
            f"The sweep's {name} ranges over {kind} [{low}, {high}]; expected {wanted}, the "
            f"smaller first{above}."
        )
    return Range(kind, low, high)


def number_or_same(value: Any) -> Any:
    """A number that is written as text, as YAML reads 1e-4; anything else as it is."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                number = kind(value)
            except ValueError:
                continue
            if math.isfinite(number):
                return number
    return value


def grid(space: Space) -> Iterator[Values]:
    """All combinations, the last parameter changing fastest.

    Raises:
        ValueError: when a parameter has a range, or there are too many.
    """
    lists = []
    for name, entry in space.items():
        if isinstance(entry, Range):
            raise InputError(
                f"A grid needs lists of values, and {name} has a range. List its values, or draw "
                "trials at random (--search random --trials 20)."
            )
        lists.append(entry)
    count = math.prod(map(len, lists))
    if count > MOST_TRIALS:
        raise InputError(
            f"The grid has {count} combinations; at most {MOST_TRIALS} are tried. List fewer "
            "values, or draw some at random (--search random --trials 20)."
        )
    return (dict(zip(space, values, strict=True)) for values in itertools.product(*lists))


def draws(space: Space, seed: int) -> Iterator[Values]:
    """An endless stream of random values; draw n depends only on the seed, the space and n."""
    for number in itertools.count():
        generator = np.random.default_rng([seed, number])
        yield {
            name: entry.draw(generator)
            if isinstance(entry, Range)
            else entry[int(generator.integers(len(entry)))]
            for name, entry in space.items()
        }


def distinct(
    candidates: Iterable[Values], applicable: Callable[[Values], Values], most: int | None
) -> list[Values]:
    """The first ``most`` trials whose applicable values differ; all such trials without ``most``.

    Args:
        candidates: possible trials, in order.
        applicable: a trial's values without those that have no meaning for it, such as the inner
            steps of a strategy that takes none.
        most: largest number of trials; fewer are returned if many draws bring nothing new.
    """
    found: dict[str, Values] = {}
    unlucky = 0
    for candidate in candidates:
        values = applicable(candidate)
        unlucky += 1
        if found.setdefault(json.dumps(values, sort_keys=True), values) is values:
            unlucky = 0
        if most is not None and (len(found) == most or unlucky == DRAWS_A_TRIAL):
            break
    return list(found.values())
