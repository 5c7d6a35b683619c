"""``quickstudy inspect``: what a classifier's file holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from quickstudy.classifier.embedded_encoder import is_unpacked
from quickstudy.classifier.file import load_model
from quickstudy.classifier.hub import downloaded
from quickstudy.classifier.model import Model
from quickstudy.cli.output import say, show
from quickstudy.cli.parsing import add_trust, new_parser, parse


def run(words: Sequence[str]) -> int:
    """Prints, and draws if asked; returns the exit code."""
    parser = new_parser(
        "inspect", "Show a classifier's classes, examples, encoder, strategy and calibration."
    )
    parser.add_argument("file", type=str, help="a classifier's file, or owner/name on the hub")
    parser.add_argument("--plot", type=str | None, help="draw the examples' features to this file")
    add_trust(parser)
    options = parse(parser, words)

    model = load_model(downloaded(options.file))
    if options.plot:
        from quickstudy.classifier.picture import plot_embedding

        plot_embedding(model, Path(options.plot))
    table = Table(title=escape(options.file))
    table.add_column("class")
    table.add_column("examples", justify="right")
    for label, size in model.sizes.items():
        table.add_row(escape(str(label)), str(size))
    try:
        show(table)
        print("\n".join(facts(model)))
    finally:
        if options.plot:
            say(f"Written to {options.plot}.")
    return 0


def facts(model: Model) -> list[str]:
    """What is known of a classifier, a line each."""
    reader, trust = model.parts.reader, model.learner.trust
    encoder = "in the strategy" if reader.encoder is None else type(reader.encoder).__name__
    if reader.name and is_unpacked(reader.name):
        encoder = f"{Path(reader.name).name}, in the file ({encoder})"
    elif reader.name:
        encoder = f"{reader.name}{f' at {reader.revision}' if reader.revision else ''} ({encoder})"
    shape = "x".join(map(str, model.support.kept.shape[1:]))
    lines = [
        f"inputs: {reader.inputs.modality if reader.inputs is not None else 'arrays'}",
        f"encoder: {encoder}",
        f"strategy: {type(model.learner.strategy).__name__}",
        f"kept of each example: {shape} numbers",
        f"names of classes count as examples: {'yes' if model.learner.named is not None else 'no'}",
    ]
    if trust is None:
        return [*lines, "calibration: not measured"]
    lines.append(f"calibration: logits are divided by {trust.temperature:.3g}")
    measured = ~trust.held_out.isnan().any(1)
    if bool(measured.any()):
        hits = trust.held_out[measured].argmax(1).cpu() == model.targets[measured.cpu()]
        lines.append(
            f"held-out examples answered rightly: {int(hits.sum())} of {len(hits)} "
            f"({float(hits.float().mean()):.0%})"
        )
    return lines
