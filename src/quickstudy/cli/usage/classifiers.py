"""What the commands take that make and use classifiers' files."""

from __future__ import annotations

from quickstudy.cli.command import Argument, Command, Group, Option
from quickstudy.cli.usage.shared import DEVICE, INPUTS, TRUST, UNREADABLE, flag

FILE = Argument("file", "the classifier's file, or owner/name on the Hugging Face hub")

LEARN = Command(
    "learn",
    "learn classes from a handful of examples of your own, into one file",
    "Learn to tell classes apart from a handful of examples: a folder of images, sounds or text "
    "files with one sub-folder per class, or a table (CSV, TSV, JSON lines, parquet) of texts or "
    "paths with their labels.",
    arguments=(Argument("source", "the folder or the table"),),
    groups=(
        Group(
            "options",
            (
                Option(
                    "out",
                    "file to write, such as pets.qs",
                    short="-o",
                    required=True,
                    main=True,
                    metavar="FILE",
                ),
                Option(
                    "encoder",
                    "run, local model, model of the Hugging Face hub, or class by its import path; "
                    "by default a pretrained model",
                    type=str | None,
                    main=True,
                    free=True,
                ),
                Option(
                    "strategy",
                    "strategy by name, or a run to use as it was trained; by default logistic "
                    "regression",
                    type=str | None,
                    main=True,
                ),
                Option(
                    "input_column",
                    "column of the table that holds the inputs",
                    type=str | None,
                    main=True,
                ),
                Option(
                    "label_column",
                    "column of the table that holds the labels",
                    type=str | None,
                    main=True,
                ),
                Option(
                    "data_split",
                    "splits of the data to learn from, such as train+validation; by default the "
                    "training split, if there are several",
                    type=str | None,
                    metavar="NAMES",
                ),
                UNREADABLE,
                Option(
                    "calibrate",
                    "measure how far its probabilities can be trusted",
                    type=bool,
                    default=True,
                    main=True,
                ),
                Option(
                    "keep_examples",
                    "keep names and small pictures of the examples in the file",
                    type=bool,
                    default=True,
                ),
                Option(
                    "embed_encoder",
                    "write the pretrained encoder into the file, so that another machine needs "
                    "nothing else",
                    type=bool,
                    default=False,
                ),
                Option(
                    "class_names",
                    "use each class's name as an extra example (texts only); by default only if "
                    "that helps",
                    type=bool | None,
                ),
                Option("seed", "random seed", type=int, default=0, metavar="N"),
                DEVICE,
            ),
        ),
    ),
)

PREDICT = Command(
    "predict",
    "say what new images, texts or sounds are",
    "Classify new inputs: print the class of each and its probability, one line per input.",
    arguments=(FILE, INPUTS),
    groups=(
        Group(
            "options",
            (
                flag("json", "print JSON, with all probabilities"),
                flag("csv", "print CSV"),
                flag(
                    "reject",
                    'answer "none" for inputs that resemble no learned class; the probability '
                    "shown is that of the nearest class",
                ),
                Option(
                    "keep",
                    "share of inputs of known classes that --reject keeps, 0.95 unless given",
                    type=float | None,
                    main=True,
                    metavar="SHARE",
                ),
                Option(
                    "coverage",
                    "also print a set of classes that holds the true one with this probability, "
                    "such as 0.9",
                    type=float | None,
                    main=True,
                    metavar="SHARE",
                ),
                UNREADABLE,
                TRUST,
                DEVICE,
            ),
        ),
    ),
)

INSPECT = Command(
    "inspect",
    "show what a classifier's file holds",
    "Show a classifier's classes, encoder, strategy and calibration; with --examples, its "
    "examples with the numbers that remove and relabel take.",
    arguments=(FILE,),
    groups=(
        Group(
            "options",
            (
                flag("examples", "list the examples and their numbers"),
                flag("json", "print everything as JSON"),
                Option(
                    "plot",
                    "draw the examples' features into this file",
                    type=str | None,
                    main=True,
                    metavar="FILE",
                ),
                TRUST,
            ),
        ),
    ),
)

ADD = Command(
    "add",
    "add examples or a class to a classifier's file",
    "Add examples of one class, known or new, to a classifier. Nothing is trained; the file is "
    "rewritten in one piece.",
    arguments=(
        Argument("file", "the classifier's file"),
        Argument("label", "the class"),
        INPUTS,
    ),
    groups=(Group("options", (UNREADABLE, TRUST)),),
)
