"""``quickstudy evaluate FILE.qs``: measures a classifier on labelled files."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from quickstudy.classifier.collecting import labelled
from quickstudy.classifier.file import SUFFIX, load_model
from quickstudy.classifier.labels import as_typed
from quickstudy.classifier.measuring import measured
from quickstudy.cli.output import say
from quickstudy.cli.progress import progress_shown
from quickstudy.cli.tables import as_text, note, show_table
from quickstudy.evaluation.report import as_json
from quickstudy.messages import UsageError
from quickstudy.saving.files import check_writable, write_text_atomically


def is_classifier(name: str) -> bool:
    """Whether it names a classifier's file rather than a run."""
    return name.endswith(SUFFIX)


def measure(options: Namespace) -> int:
    """Measures and prints; returns the exit code."""
    if options.data is None:
        raise UsageError(
            "Name the labelled files to measure the classifier on: --data FOLDER, with one "
            "sub-folder per class, or a table."
        )
    if options.json:
        check_writable(Path(options.json))
    model = load_model(Path(options.run), device=options.device)
    skips = options.unreadable == "skip"
    with progress_shown():
        examples = labelled(
            Path(options.data), options.input_column, options.label_column, skips,
            options.data_split,
        )  # fmt: skip
        if skips:
            examples = examples.readable(model.parts.reader)
        labels = [as_typed(label, model.classes) for label in examples.labels]
        found = measured(model, examples.raw, labels)
    if options.json:
        text = as_json({**found.facts, "classes": found.classes})
        write_text_atomically(Path(options.json), text)
    try:
        note("\n".join(f"{name}: {as_text(value)}" for name, value in found.facts.items()))
        show_table(found.classes)
    finally:
        if options.json:
            say(f"Written to {options.json}.")
    return 0
