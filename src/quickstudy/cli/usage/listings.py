"""The arguments of the commands that list data sets and strategies."""

from __future__ import annotations

from quickstudy.cli.command import Argument, Command, Group
from quickstudy.cli.usage.shared import flag

DATASETS = Command(
    "datasets",
    "list the data sets that are known by name, or show one",
    "List the data sets that are known by name, or show the details of one. Besides them, --data "
    "takes a folder of images, texts or sounds (one sub-folder per class), a table with a column "
    "of inputs and one of labels, a folder laid out like a repository of the Hugging Face hub, "
    "and the name of such a repository.",
    arguments=(Argument("name", "data set to show in detail", optional=True),),
    groups=(Group("options", (flag("json", "print JSON"),)),),
)

STRATEGIES = Command(
    "strategies",
    "list the strategies with their papers, or show one",
    "List the strategies of the package, or show one in detail. --strategy takes one of these "
    "names, or the import path of a class of your own.",
    arguments=(Argument("name", "strategy to show in detail", optional=True),),
    groups=(
        Group(
            "options",
            (
                flag("json", "print JSON"),
                flag("markdown", "print the documentation's page of strategies"),
            ),
        ),
    ),
)
