"""``quickstudy add``: more examples for a classifier, of a known class or a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quickstudy.classifier.collecting import new_inputs
from quickstudy.classifier.file import load_model, save_model
from quickstudy.classifier.labels import as_typed
from quickstudy.cli.output import lines_of_input, say
from quickstudy.cli.parsing import parsed
from quickstudy.cli.predict import modality
from quickstudy.cli.reading import Given
from quickstudy.errors import MissingFileError
from quickstudy.saving.file_lock import changing
from quickstudy.saving.files import check_writable


def run(given: Given) -> int:
    """Adds examples and writes the file anew; returns the exit code."""
    options = parsed(given)

    path = Path(options.file)
    if not path.exists():
        raise MissingFileError(f"There is no classifier {str(path)!r}.")
    check_writable(path)
    lines = [*lines_of_input()] if "-" in options.inputs else []  # not read otherwise
    with changing(path):
        model = load_model(path)
        examples = new_inputs(options.inputs, modality(model), lines)
        if options.unreadable == "skip":
            examples = examples.readable(model.parts.reader)
        typed = options.label if options.label in model.sizes else options.label.strip()
        label = as_typed(typed, model.classes)
        prefix = "" if label in model.sizes else "the new class "
        labels = np.array([label] * len(examples))
        model = model.extended(examples.raw, labels, examples.names)
        save_model(model, path)
    say(
        f"Added {len(examples)} examples of {prefix}{str(label)!r}, which has "
        f"{model.sizes[label]} now; {len(model.classes)} classes in all. Written to {path}."
    )
    return 0
