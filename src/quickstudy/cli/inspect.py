"""``quickstudy inspect``: what a classifier's file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quickstudy.classifier.embedded_encoder import is_unpacked
from quickstudy.classifier.file import load_model
from quickstudy.classifier.hub import downloaded
from quickstudy.classifier.model import Model
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.tables import as_text, note, show_table


def run(given: Given) -> int:
    """Prints, and draws if asked; returns the exit code."""
    options = parsed(given)

    model = load_model(downloaded(options.file))
    if options.plot:
        from quickstudy.classifier.picture import plot_embedding

        plot_embedding(model, Path(options.plot))
    about, classes, examples = facts(model), class_rows(model), example_rows(model)
    try:
        if not options.json:
            note("\n".join(f"{name}: {as_text(value)}" for name, value in about.items()))
        show_table(
            examples if options.examples else classes,
            json=options.json,
            whole={"file": options.file, **about, "classes": classes, "examples": examples},
        )
    finally:
        if options.plot:
            note(f"Written to {options.plot}.")
    return 0


def class_rows(model: Model) -> list[dict[str, Any]]:
    """The classes and their sizes."""
    return [{"class": label, "examples": size} for label, size in model.sizes.items()]


def example_rows(model: Model) -> list[dict[str, Any]]:
    """The examples in the order in which they were given, numbered from 0."""
    support = model.support
    both = zip(support.labels.tolist(), support.names, strict=True)
    return [
        {"number": number, "class": label, "input": name or None}
        for number, (label, name) in enumerate(both)
    ]


def facts(model: Model) -> dict[str, Any]:
    """The facts about a classifier besides its classes and examples."""
    reader, calibration = model.parts.reader, model.learner.calibration
    encoder = "in the strategy" if reader.encoder is None else type(reader.encoder).__name__
    if reader.name and is_unpacked(reader.name):
        encoder = f"{Path(reader.name).name}, in the file ({encoder})"
    elif reader.name:
        encoder = f"{reader.name}{f' at {reader.revision}' if reader.revision else ''} ({encoder})"
    found: dict[str, Any] = {
        "inputs": reader.inputs.modality if reader.inputs is not None else "arrays",
        "encoder": encoder,
        "strategy": type(model.learner.strategy).__name__,
        "kept of each example": "x".join(map(str, model.support.kept.shape[1:])) + " numbers",
        "class names count as examples": model.learner.named is not None,
    }
    if calibration is None:
        found["calibration"] = "not measured"
    else:
        found["calibration temperature"] = calibration.temperature
        measured = ~calibration.out_of_fold.isnan().any(1)
        hits = calibration.out_of_fold[measured].argmax(1).cpu() == model.targets[measured.cpu()]
        if len(hits):
            found["held-out examples"] = len(hits)
            found["held-out accuracy"] = float(hits.float().mean())
    return found
