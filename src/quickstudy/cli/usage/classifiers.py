"""The arguments of the commands that make and use classifiers' files."""

from __future__ import annotations

from quickstudy.cli.command import Argument, Command, Group, Option
from quickstudy.cli.usage.shared import DEVICE, INPUTS, TRUST, UNREADABLE, flag

FILE = Argument("file", "the classifier's file, or owner/name on the Hugging Face hub")

REMEMBERS = "The file remembers the last ten changes for `quickstudy undo`."

EXAMPLES = "such as 3,5-8; `quickstudy inspect FILE --examples` lists them"

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
                    classes=True,
                    free=True,
                ),
                Option(
                    "strategy",
                    "strategy by name, or a run to use as it was trained; by default logistic "
                    "regression",
                    type=str | None,
                    main=True,
                    classes=True,
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
    "classify new images, texts or sounds",
    "Classify new inputs. Prints a row for each as soon as it is known: the input, its class and "
    "the probability of that class; as tab-separated values where the output is not a terminal.",
    arguments=(
        FILE,
        Argument(
            "inputs",
            "files, folders and tables (CSV, TSV, JSON lines, parquet), or the texts themselves; - "
            "reads one text or path per line from standard input",
            many=True,
        ),
    ),
    groups=(
        Group(
            "options",
            (
                Option(
                    "input_column",
                    "column of the table that holds the inputs, if that is not clear",
                    type=str | None,
                    main=True,
                ),
                Option(
                    "output",
                    "write the answers to this file (.tsv, .csv or .jsonl); if the job is killed, "
                    "the same command continues it",
                    type=str | None,
                    main=True,
                    metavar="FILE",
                ),
                flag("json", "print JSON, with all probabilities"),
                flag("csv", "print CSV", main=False),
                Option(
                    "keep",
                    'answer "none" for inputs that resemble no learned class, but keep this share '
                    "of inputs of known classes; try 0.95, or less to reject more",
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
    "Add examples of one class, known or new, to a classifier, which then answers as if it had "
    f"learned from all of them. {REMEMBERS}",
    arguments=(
        Argument("file", "the classifier's file"),
        Argument("label", "the class"),
        INPUTS,
    ),
    groups=(Group("options", (UNREADABLE, TRUST)),),
)

REMOVE = Command(
    "remove",
    "remove examples or classes from a classifier's file",
    "Remove classes, or single examples, from a classifier, which then answers as if it had "
    f"learned from the others only. {REMEMBERS} For that it keeps the removed examples, unless you "
    "give --forget.",
    arguments=(
        Argument("file", "the classifier's file"),
        Argument("classes", "classes to remove", many=True, optional=True),
    ),
    groups=(
        Group(
            "options",
            (
                Option(
                    "examples",
                    f"numbers of the examples to remove, {EXAMPLES}",
                    type=str | None,
                    main=True,
                    metavar="NUMBERS",
                ),
                flag(
                    "forget",
                    "leave nothing of the examples in the file; neither this change nor earlier "
                    "ones can be undone then",
                ),
                TRUST,
            ),
        ),
    ),
)

RELABEL = Command(
    "relabel",
    "rename a class, or give examples another class",
    "Rename a class (relabel FILE OLD NEW), or give single examples another class (relabel FILE "
    "NEW --examples 3,5-8). Renaming to a class that exists joins the two. The classifier then "
    f"answers as if it had learned so from the start. {REMEMBERS}",
    arguments=(
        Argument("file", "the classifier's file"),
        Argument(
            "classes",
            "the class and its new name; with --examples, only the class they belong to",
            many=True,
        ),
    ),
    groups=(
        Group(
            "options",
            (
                Option(
                    "examples",
                    f"numbers of the examples to relabel, {EXAMPLES}",
                    type=str | None,
                    main=True,
                    metavar="NUMBERS",
                ),
                TRUST,
            ),
        ),
    ),
)

UNDO = Command(
    "undo",
    "take back the last change of a classifier's file",
    "Take back the last change that add, remove or relabel made to a classifier, which then "
    "answers exactly as before. Run it again to take back the change before that. The file itself "
    "remembers the last ten changes, or fewer if it would grow by more than half (files under "
    "0.5 MB may grow more); the last change can always be undone.",
    arguments=(Argument("file", "the classifier's file"),),
    groups=(
        Group(
            "options",
            (
                flag("list", "list the changes, the last one first, and undo nothing"),
                flag("json", "print this list as JSON"),
            ),
        ),
    ),
)
