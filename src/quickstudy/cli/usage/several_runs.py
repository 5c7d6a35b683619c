"""The arguments of the commands that train several runs."""

from __future__ import annotations

from typing import Any, Literal

from quickstudy.cli.command import Argument, Command, Group, Option
from quickstudy.cli.usage.shared import JSON, number, out
from quickstudy.cli.usage.training import training_groups

RUNNING = Group(
    "where runs are trained",
    (
        number("jobs", "number of runs trained at a time, each in its own process", 1),
        Option(
            "ray",
            "train on Ray: local (this machine), auto (its cluster) or HOST:PORT; --out must be "
            "on storage that all workers share",
            type=str | None,
            metavar="ADDRESS",
        ),
        Option("cpus", "number of CPUs per run on Ray", type=float, default=1, metavar="N"),
        Option("gpus", "number of GPUs per run on Ray", type=float, default=0, metavar="N"),
    ),
)

COMPARE = Command(
    "compare",
    "train and evaluate several strategies under one budget",
    "Train and evaluate several strategies under one budget (--steps or --max-minutes) and on "
    "the same test tasks. To continue a comparison that was stopped, start it again.",
    arguments=(
        Argument(
            "contenders",
            "names of strategies, YAML files of training options, or finished runs, which are "
            "only evaluated",
            many=True,
            optional=True,
            classes=True,
        ),
    ),
    groups=(
        *training_groups(
            out("folder for runs, table and picture", "runs/compare"),
            JSON,
            Option("test_split", "split of the classes to test on", default="test", metavar="NAME"),
            number(
                "test_ways", "number of classes per test task; by default as in training, at most 5"
            ),
            Option(
                "test_shots",
                "numbers of shots to test with; by default [1,5]",
                type=list[int] | None,
                main=True,
                metavar="LIST",
            ),
            number(
                "test_queries",
                "number of query examples per class; by default at most 15",
            ),
            number("episodes", "number of test tasks", 1000),
            main=(
                "out",
                "json",
                "test_shots",
                "config",
                "data",
                "ways",
                "shots",
                "steps",
                "max_minutes",
            ),
        ),
        RUNNING,
    ),
)

SWEEP = Command(
    "sweep",
    "try many values of a run's parameters, and keep the best",
    "Train runs that differ in some parameters, and rank them by their accuracy on the "
    "validation classes. To continue a sweep that was stopped, start it again.",
    arguments=(
        Argument(
            "parameters",
            "what varies: NAME=VALUE,VALUE or 'NAME={log_uniform: [LOW, HIGH]}'",
            many=True,
            optional=True,
            classes=True,
        ),
    ),
    groups=(
        *training_groups(
            out("folder for results and runs", "runs/sweep"),
            JSON,
            Option(
                "sweep",
                "parameters with their values or ranges",
                type=dict[str, Any] | None,
                metavar="VALUES",
            ),
            Option(
                "search",
                "try all combinations, random ones, or many briefly and the best for longer",
                type=Literal["grid", "random", "halving"],
                default="grid",
                main=True,
            ),
            number("trials", "number of random trials", main=True),
            number("eta", "halving keeps one trial in this many", 3),
            number("rungs", "number of halvings plus one; by default down to one trial"),
            main=("out", "json", "search", "trials", "config", "data", "strategy", "steps"),
        ),
        RUNNING,
    ),
)
