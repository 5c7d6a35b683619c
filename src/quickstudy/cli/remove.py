"""``quickstudy remove``: a classifier without some of its examples or classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from quickstudy.classifier.changes import numbers_of, removed
from quickstudy.classifier.history import change_file
from quickstudy.classifier.labels import as_typed
from quickstudy.classifier.model import Model
from quickstudy.cli.output import say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.messages import UsageError

_MOST = 10**7


def run(given: Given) -> int:
    """Removes and writes the file anew; returns the exit code."""
    options = parsed(given)
    if bool(options.classes) == (options.examples is not None):
        raise UsageError(
            "Name the classes to remove, or the examples with --examples 3,5-8; not both."
        )
    chosen = None if options.examples is None else numbers(options.examples)

    def change(model: Model) -> tuple[Model, str]:
        labels = [as_typed(label, model.classes) for label in options.classes]
        some = chosen or [number for label in labels for number in numbers_of(model, label)]
        smaller = removed(model, some)
        if labels:
            several = "es" if len(labels) > 1 else ""
            what = f"the class{several} {', '.join(repr(str(label)) for label in labels)}"
        else:
            what = described(model, some)
        return smaller, f"Removed {what}; {left(smaller)}."

    say(f"{change_file(Path(options.file), change, options.forget)} Written to {options.file}.")
    return 0


def described(model: Model, some: Sequence[int]) -> str:
    """Which examples these are, in a few words."""
    different = sorted(set(some))
    first = different[0]
    name = model.support.names[first] or f"example {first}"
    label = str(model.support.labels.tolist()[first])
    shown = f"{name[:60]!r} of {label!r}"
    if len(different) == 1:
        return f"the example {shown}"
    return f"{len(different)} examples ({shown} is the first)"


def left(model: Model) -> str:
    """How much a classifier holds."""
    return f"{len(model.support)} examples of {len(model.classes)} classes are left"


def numbers(typed: str) -> list[int]:
    """The numbers that are meant by ``3,5-8``: 3, 5, 6, 7 and 8.

    Raises:
        UsageError: when it is anything else.
    """
    found: list[int] = []
    for part in typed.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last > _MOST:
            raise UsageError(
                f"--examples is {typed!r}; give numbers and ranges as `quickstudy inspect FILE "
                "--examples` lists them, such as 3,5-8."
            )
        found += range(first, last + 1)
    return found
