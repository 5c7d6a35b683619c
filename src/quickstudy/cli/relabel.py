"""``quickstudy relabel``: a class renamed, or examples given to another class."""

from __future__ import annotations

from pathlib import Path

from quickstudy.classifier.changes import numbers_of, relabelled
from quickstudy.classifier.history import change_file
from quickstudy.classifier.labels import as_typed
from quickstudy.classifier.model import Model
from quickstudy.cli.output import say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.remove import described, numbers
from quickstudy.messages import UsageError


def run(given: Given) -> int:
    """Relabels and writes the file anew; returns the exit code."""
    options = parsed(given)
    if len(options.classes) != (2 if options.examples is None else 1):
        raise UsageError(
            "Give the class and its new name (relabel FILE OLD NEW), or the new class of some "
            "examples (relabel FILE NEW --examples 3,5-8)."
        )
    chosen = None if options.examples is None else numbers(options.examples)

    def change(model: Model) -> tuple[Model, str]:
        *old, new = (as_typed(label, model.classes) for label in options.classes)
        some = chosen if chosen is not None else numbers_of(model, old[0])
        if old == [new]:
            raise UsageError(f"The class is called {str(new)!r} already.")
        changed = relabelled(model, some, new)
        what = f"the class {str(old[0])!r}" if old else described(model, some)
        verb, existed = ("Renamed", "to") if old else ("Relabelled", "as")
        if old and new in model.sizes:
            verb, existed = "Joined", "with the class"
        return changed, (
            f"{verb} {what} {existed} {str(new)!r}, which has {changed.sizes[new]} examples now; "
            f"{len(changed.classes)} classes in all."
        )

    say(f"{change_file(Path(options.file), change)} Written to {options.file}.")
    return 0
