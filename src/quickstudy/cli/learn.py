"""``quickstudy learn``: a folder or a table of examples to a classifier in one file."""

from __future__ import annotations

import time
from pathlib import Path

from quickstudy.classifier.collecting import labelled
from quickstudy.classifier.file import save_model
from quickstudy.classifier.model import Model, Settings
from quickstudy.classifier.parts import assembled
from quickstudy.cli.output import say
from quickstudy.cli.own_encoder import own_encoder
from quickstudy.cli.parsing import parsed
from quickstudy.cli.progress import progress_shown
from quickstudy.cli.reading import Given
from quickstudy.saving.file_lock import changing
from quickstudy.saving.files import check_apart, check_writable


def run(given: Given) -> int:
    """Learns and writes the file; returns the exit code."""
    arguments = {
        name.partition(".")[2]: given.options.pop(name)
        for name in list(given.options)
        if name.startswith("encoder.")
    }
    options = parsed(given)
    started = time.perf_counter()
    skips = options.unreadable == "skip"
    out = Path(options.out)
    check_writable(out)
    check_apart(out, Path(options.source))
    examples = labelled(
        Path(options.source),
        options.input_column,
        options.label_column,
        skips,
        options.data_split,
    )
    settings = Settings(options.calibrate, options.keep_examples, options.seed, options.class_names)
    with progress_shown():
        encoder, inputs = own_encoder(options.encoder, arguments, examples.raw)
        parts = assembled(
            encoder, options.strategy, inputs, examples.raw, options.device, cached=True
        )
        if skips:
            examples = examples.readable(parts.reader)
        model = Model.learned(parts, examples.raw, examples.labels, settings, examples.names)
    with changing(out):  # waits until an addition to the old file has ended
        save_model(model, out, options.embed_encoder)
    say(
        f"Learned {len(model.classes)} classes from {len(examples)} examples in "
        f"{time.perf_counter() - started:.1f} s. Written to {options.out}."
    )
    return 0
