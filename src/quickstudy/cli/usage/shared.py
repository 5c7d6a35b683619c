"""Options that several commands take."""

from __future__ import annotations

from typing import Any, Literal

from quickstudy.cli.command import Argument, Group, Option

TRUST = Option(
    "trust",
    "allow files to use this class of your own code (import path; can be repeated)",
    type=str | list[str] | None,
    metavar="CLASS",
    repeated=True,
    classes=True,
)

UNREADABLE = Option(
    "unreadable",
    "refuse examples that cannot be read, or skip them with a warning",
    type=Literal["refuse", "skip"],
    default="refuse",
)

DEVICE = Option("device", "device to compute on, such as cuda", type=str | None, metavar="DEVICE")


def flag(name: str, help: str, main: bool = True) -> Option:
    """An option without a value."""
    return Option(name, help, type=bool, default=False, flag=True, main=main)


JSON = flag("json", "print the table as JSON")


COUNT = int | tuple[int, int]
"""The type of a number or an inclusive range."""


def number(name: str, help: str, default: Any = None, **more: Any) -> Option:
    """An option for a whole number, optional where its default is None."""
    type_: Any = int | None if default is None else int
    return Option(name, help, type=type_, default=default, metavar="N", **more)


def out(help: str, default: str | None = None) -> Option:
    """The option for the folder that a command writes into."""
    type_: Any = str | None if default is None else str
    return Option("out", help, type=type_, default=default, main=True, metavar="FOLDER")


INPUTS = Argument(
    "inputs",
    "files and folders, or the texts themselves; - reads one text or path per line from "
    "standard input",
    many=True,
)


def data_options(data: str | None, split_seed: int | None) -> Group:
    """``--data`` and how it is read and divided, with two defaults."""
    return Group(
        "data",
        (
            Option(
                "data",
                "data set by name, folder, table, or repository of the Hugging Face hub",
                type=str | None,
                default=data,
                main=True,
            ),
            Option(
                "split",
                "how classes are divided: the name of a published split, or fractions such as "
                "0.6,0.2,0.2; by default the data's first published split",
                type=str | list[float] | None,
            ),
            Option(
                "split_seed",
                "random seed of a split by fractions",
                type=int | None,
                default=split_seed,
            ),
            Option(
                "rotations",
                "turn each class into four by quarter turns of its images; by default as the "
                "benchmark's protocol says",
                type=bool | None,
            ),
            UNREADABLE,
            Option(
                "input_column",
                "column of a table that holds the inputs, if that is not clear",
                type=str | None,
            ),
            Option(
                "label_column",
                "column of a table that holds the labels, if that is not clear",
                type=str | None,
            ),
            Option(
                "configuration",
                "data set to use from a repository that holds several",
                type=str | None,
                metavar="NAME",
            ),
            Option(
                "data_split",
                "use only the examples of this split of the data, such as train; by default "
                "those of all splits",
                type=str | None,
                metavar="NAME",
            ),
            Option(
                "where",
                'use only rows with these values, as in --where.speaker 7 or \'{"speaker": '
                '["1", "2"]}\', or those that a split in class_splits.json lists, as in '
                "--where.speaker speakers/train",
                type=dict[str, list[str | int] | str] | None,
                metavar="VALUES",
                free=True,
            ),
        ),
    )
