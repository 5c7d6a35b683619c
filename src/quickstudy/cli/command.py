"""How a command declares its arguments: the data behind help, completion and the parser.

Nothing here imports more than the standard library, so that help starts at once. What the commands
take is declared in :mod:`quickstudy.cli.usage`; what each does is the function ``run`` in the
module of its name.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Union, get_args, get_origin

Base = Literal["strategy", "encoder"]


@dataclass(frozen=True)
class Argument:
    """A positional argument of a command.

    Args:
        name: name of the attribute that holds it.
        help: one sentence without its full stop.
        many: whether one or more words are taken, as a list.
        optional: whether it can be left out.
        classes: whether classes are named here, which are trusted then.
    """

    name: str
    help: str
    many: bool = False
    optional: bool = False
    classes: bool = False


@dataclass(frozen=True)
class Option:
    """An option, ``--name VALUE``.

    Args:
        name: name of the attribute that holds its value; typed with dashes instead of underscores.
            A dot makes a group of several, such as ``augmentation.degrees``.
        help: one sentence without its full stop.
        type: type of the value, as annotations write it.
        default: value if the option is not given.
        main: whether ``--help`` shows it; ``--help-all`` shows all options.
        metavar: name of the value in help.
        short: a name of one letter, such as ``-o``.
        required: whether the option must be given.
        flag: whether the option stands alone and means true.
        repeated: whether the option can be given several times, which makes a list.
        base: the option names a class of this kind, whose arguments are set by
            ``--name.ARGUMENT VALUE``.
        classes: whether the value names classes, which are trusted then, as those of ``base`` are.
        free: any name can follow after a dot, as in ``--where.COLUMN VALUE``.
    """

    name: str
    help: str
    type: Any = str
    default: Any = None
    main: bool = False
    metavar: str = ""
    short: str = ""
    required: bool = False
    flag: bool = False
    repeated: bool = False
    base: Base | None = None
    classes: bool = False
    free: bool = False

    @property
    def typed(self) -> str:
        """The option as messages and help write it."""
        return f"--{dashed(self.name)}"

    @property
    def value_name(self) -> str:
        """Placeholder for the value in help; empty for flags."""
        if self.flag:
            return ""
        if self.metavar:
            return self.metavar
        options = choices(self.type)
        if options:
            return f"{{{','.join(options)}}}"
        return self.name.rpartition(".")[2].rpartition("_")[2].upper()


@dataclass(frozen=True)
class Group:
    """Options under one title."""

    title: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        name: as typed; ``quickstudy.cli.NAME`` has its function ``run``.
        summary: its line in ``quickstudy --help``.
        description: what it does, in a few sentences.
        arguments: words by their place.
        groups: options.
    """

    name: str
    summary: str
    description: str
    arguments: tuple[Argument, ...] = ()
    groups: tuple[Group, ...] = ()

    def __iter__(self) -> Iterator[Option]:
        """All options."""
        for group in self.groups:
            yield from group.options

    @cached_property
    def options(self) -> dict[str, Option]:
        """All options by their names."""
        return {option.name: option for option in self}

    @cached_property
    def short(self) -> dict[str, Option]:
        """The options that have a name of one letter, by that name; ``-h`` among them."""
        help_ = Option("help", "show the options that people use", short="-h", flag=True)
        return {option.short: option for option in (help_, *self) if option.short}


def dashed(name: str) -> str:
    """An option's name as help and messages write it."""
    return name.replace("_", "-")


def choices(of: Any) -> tuple[str, ...]:
    """The values that a type lists, if it is a choice; true and false for booleans."""
    if of is bool:
        return ("true", "false")
    if get_origin(of) is Literal:
        return tuple(map(str, get_args(of)))
    if get_origin(of) in (Union, types.UnionType):
        return next((found for each in get_args(of) if (found := choices(each))), ())
    return ()


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    tuple: "a range such as [5,20]",
    list: "a list such as [1,5]",
    dict: "a mapping such as {name: value}",
}


def expected(of: Any) -> str:
    """The values of a type in words; empty for types that have none."""
    if get_origin(of) is Literal:
        return f"one of {', '.join(map(repr, get_args(of)))}"
    if get_origin(of) in (Union, types.UnionType):
        found = [expected(each) for each in get_args(of)]
        return " or ".join(found) if all(found) else ""
    return _KINDS.get(get_origin(of) or of, "")
