"""``quickstudy learn``: a folder or a table of examples to a classifier in one file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from quickstudy.classifier.collecting import labelled
from quickstudy.classifier.file import save_model
from quickstudy.classifier.model import Model, Settings
from quickstudy.classifier.parts import assembled
from quickstudy.cli.output import say
from quickstudy.cli.own_encoder import own_encoder, without_arguments
from quickstudy.cli.parsing import add_unreadable, new_parser, parse
from quickstudy.cli.progress import progress_shown
from quickstudy.saving.file_lock import changing
from quickstudy.saving.files import check_apart, check_writable


def run(words: Sequence[str]) -> int:
    """Learns and writes the file; returns the exit code."""
    parser = new_parser(
        "learn",
        "Learn to tell classes apart from a handful of examples: a folder of images, sounds or "
        "text files (a sub-folder a class), or a table (CSV, TSV, JSON lines, parquet) of texts or "
        "paths and their labels.",
    )
    parser.add_argument("source", type=str, help="the folder or the table")
    parser.add_argument(
        "-o", "--out", type=str, required=True, help="the file to write, such as pets.qs"
    )
    parser.add_argument(
        "--encoder",
        type=str | None,
        help=(
            "a run trained here, a local model, a model of the Hugging Face hub, or your own class "
            "by its import path (--encoder.ARGUMENT sets its arguments); by default a pretrained "
            "one that suits the inputs"
        ),
    )
    parser.add_argument(
        "--strategy",
        type=str | None,
        help="a strategy's name, or a run, which is used as it was trained; by default logistic "
        "regression",
    )
    parser.add_argument("--input_column", type=str | None, help="of a table")
    parser.add_argument("--label_column", type=str | None, help="of a table")
    parser.add_argument(
        "--data_split",
        type=str | None,
        help=(
            "parts of the data to learn from, such as train+validation; by default the training "
            "part only, if the data has several parts"
        ),
    )
    add_unreadable(parser)
    parser.add_argument("--calibrate", type=bool, default=True, help="measure how far to trust it")
    parser.add_argument(
        "--keep_examples", type=bool, default=True, help="keep names and small pictures in the file"
    )
    parser.add_argument(
        "--embed_encoder",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="write a pretrained encoder's folder into the file, which is then all that another "
        "machine needs",
    )
    parser.add_argument(
        "--class_names",
        type=bool | None,
        help="whether the name of a class is an example of it, where inputs are texts; by default "
        "where names tell the examples apart",
    )
    parser.add_argument("--seed", type=int, default=0, help="of whatever is random")
    parser.add_argument("--device", type=str | None, help="where to compute, e.g. cuda")
    words, arguments = without_arguments(words)
    options = parse(parser, words)

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
