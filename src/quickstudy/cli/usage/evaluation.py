"""The arguments of the commands that show results."""

from __future__ import annotations

from typing import Literal

from quickstudy.cli.command import Argument, Command, Group, Option
from quickstudy.cli.usage.shared import COUNT, DEVICE, JSON, TRUST, data_options, flag, number, out

EVALUATE = Command(
    "evaluate",
    "measure a trained run on classes it never saw",
    "Measure a trained run on tasks of classes that it never saw: accuracy with its 95 % "
    "confidence interval, likelihood, calibration and time. Or measure a classifier (evaluate "
    "FILE.qs --data FOLDER) on labelled files: accuracy, calibration, prediction sets, rejection.",
    arguments=(Argument("run", "run directory, checkpoint file, or a classifier's .qs file"),),
    groups=(
        Group(
            "evaluation",
            (
                Option(
                    "test_split",
                    'split of the classes to test on, or "all"',
                    default="test",
                    main=True,
                    metavar="NAME",
                ),
                Option(
                    "ways",
                    "number of classes per task, or a range; by default as in training, at most 5",
                    type=COUNT | None,
                    main=True,
                    metavar="N",
                ),
                Option(
                    "shots",
                    "number of support examples per class, or a range; by default as in training",
                    type=COUNT | None,
                    main=True,
                    metavar="N",
                ),
                number(
                    "queries",
                    "number of query examples per class; by default at most 15",
                    main=True,
                ),
                Option(
                    "query_balance",
                    "give all classes equally many queries, or unequal numbers (Dirichlet, α = 2)",
                    type=Literal["balanced", "dirichlet"],
                    default="balanced",
                ),
                number("episodes", "number of tasks", 1000, main=True),
                number("seed", "random seed of the tasks", 0),
                Option(
                    "checkpoint",
                    "checkpoint to evaluate",
                    type=Literal["best", "last"],
                    default="best",
                ),
                flag("json", "print the report as JSON"),
                Option(
                    "report",
                    "write the report to this JSON file too",
                    type=str | None,
                    metavar="FILE",
                ),
            ),
        ),
        data_options(None, None),
        Group(
            "machine",
            (
                DEVICE,
                number("devices", "number of processes that share the tasks", 1),
                number("nodes", "number of machines, if started with torchrun", 1),
                TRUST,
            ),
        ),
    ),
)

DEMO = Command(
    "demo",
    "learn to learn letters, and show it on scripts never seen (a few minutes)",
    "Meta-train a prototypical network on the letters of some scripts, then let it learn letters "
    "of scripts it never saw from one or five examples each, beside an untrained network and "
    "nearest neighbour on pixels. Nothing is downloaded.",
    groups=(
        Group(
            "options",
            (
                out("folder for run, table and picture", "demo"),
                number("steps", "training steps", 600, main=True),
                Option(
                    "max_minutes",
                    "stop training after this many minutes",
                    type=float,
                    default=1.25,
                    main=True,
                    metavar="MINUTES",
                ),
                number("episodes", "number of test tasks of each kind", 200, main=True),
                JSON,
            ),
        ),
    ),
)
