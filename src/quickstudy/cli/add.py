"""``quickstudy add``: more examples for a classifier, of a known class or a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quickstudy.classifier.collecting import new_inputs
from quickstudy.classifier.history import change_file
from quickstudy.classifier.labels import as_typed
from quickstudy.classifier.model import Model
from quickstudy.cli.lines import lines_of_input
from quickstudy.cli.output import say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.predict import modality
from quickstudy.cli.reading import Given


def run(given: Given) -> int:
    """Adds examples and writes the file anew; returns the exit code."""
    options = parsed(given)

    path = Path(options.file)
    lines = [*lines_of_input()] if "-" in options.inputs else []  # not read otherwise

    def change(model: Model) -> tuple[Model, str]:
        examples = new_inputs(options.inputs, modality(model), lines)
        if options.unreadable == "skip":
            examples = examples.readable(model.parts.reader)
        typed = options.label if options.label in model.sizes else options.label.strip()
        label = as_typed(typed, model.classes)
        prefix = "" if label in model.sizes else "the new class "
        labels = np.array([label] * len(examples))
        larger = model.extended(examples.raw, labels, examples.names)
        several = "s" if len(examples) > 1 else ""
        return larger, (
            f"Added {len(examples)} example{several} of {prefix}{str(label)!r}, which has "
            f"{larger.sizes[label]} now; {len(larger.classes)} classes in all."
        )

    say(f"{change_file(path, change)} Written to {path}.")
    return 0
