"""The words of a command line, read once: which are options, values and arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quickstudy.cli.command import Command, Option, dashed
from quickstudy.deprecated import FORMER_OPTIONS
from quickstudy.messages import UsageError, did_you_mean

FORMER_FLAGS = {"reject": "0.95"}
"""Former options without a value, and the value that they stand for unless another is given."""


@dataclass(frozen=True)
class Given:
    """The words that were typed after the name of a command.

    Args:
        command: what the command takes.
        arguments: words that are no options, in their order.
        options: value of each option by its name with underscores; True for a flag, a list for an
            option that may be repeated. ``strategy.inner_steps`` is a name too.
        classes: all that was typed in places that name classes; what is named there is trusted.
        help: the help that was asked for: "main", "all", or the option whose class is explained.
    """

    command: Command
    arguments: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    help: str = ""


def read(command: Command, words: Sequence[str]) -> Given:
    """Reads the words after a command's name.

    Dashes and underscores in the names of options are the same; former names are accepted with a
    line on standard error.

    Raises:
        UsageError: an option is not known or has no value, or words are missing or too many.
    """
    waiting = list(words)
    arguments: list[str] = []
    options: dict[str, Any] = {}
    classes: list[str] = []
    help_ = ""
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            arguments += waiting
            break
        if not word.startswith("--") and word not in command.short:
            arguments.append(word)
            continue
        typed, equals, value = word.partition("=")
        alone = not equals and (
            not waiting or waiting[0].startswith("--") or waiting[0] in command.short
        )
        if typed in ("-h", "--help", "--help-all"):
            return Given(command, help="all" if typed == "--help-all" else "main")
        name, option = _known(typed, command)
        if typed[2:] in FORMER_FLAGS and name != typed[2:]:
            options.setdefault(name, FORMER_FLAGS[typed[2:]])
            continue
        if name == "json" and "report" in command.options and not alone:
            # Earlier, the name of a file followed, which then is a word beyond the arguments.
            complete = len(arguments) == len(command.arguments)
            if equals or complete or waiting[0].endswith(".json"):
                _note_former("json FILE", "report FILE")
                name, option = "report", command.options["report"]
        if name.endswith(".help"):
            help_, name = option.name, option.name
            if alone:
                continue
        if not equals and (option.flag or (alone and option.type is bool)):
            options[name] = True
            continue
        if alone:
            raise UsageError(f"{typed} needs a value: {typed} {option.value_name}.")
        value = value if equals else waiting.pop(0)
        if not value:  # a path that is empty would be the current folder
            raise UsageError(f"{typed} is empty; leave it out, or say what it is.")
        if option.base and name == option.name and options.get(name, value) != value:
            _forget_arguments(name, options)  # of the class that was named before
        options[name] = [*options.get(name, ()), value] if option.repeated else value
        if (option.base or option.classes) and "." in value:  # as an import path has
            classes.append(value)
    if not help_:
        _check_arguments(command, arguments)
    if any(argument.classes for argument in command.arguments):
        # compare names classes, sweep writes strategy=CLASS,CLASS
        classes += [word.rpartition("=")[2] for word in arguments if not Path(word).exists()]
    return Given(command, tuple(arguments), options, tuple(classes), help_)


def _forget_arguments(name: str, options: dict[str, Any]) -> None:
    for each in list(options):
        if each.startswith(f"{name}."):
            del options[each]


def _known(typed: str, command: Command) -> tuple[str, Option]:
    """An option's present name, and what is known of it."""
    if typed in command.short:
        option = command.short[typed]
        return option.name, option
    name = typed[2:]
    first, dot, rest = name.partition(".")
    owner = command.options.get(first.replace("-", "_"))
    if dot and owner is not None and owner.free:
        return f"{owner.name}.{rest}", owner
    name = name.replace("-", "_")
    present = FORMER_OPTIONS.get(name, "")
    if present in command.options:
        _note_former(name, present)
        name = present
    if name in command.options:
        return name, command.options[name]
    if dot and owner is not None and owner.base:
        return name, owner
    raise UsageError(unknown(typed, command))


def _note_former(name: str, present: str) -> None:
    from quickstudy.cli.output import complain

    complain(
        f"quickstudy: --{dashed(name)} is now --{dashed(present)}; the old name works until "
        "version 1.0."
    )


def unknown(name: str, command: Command) -> str:
    """The message about an option that a command does not have."""
    known = [option.typed for option in command]
    return f"There is no option {name}.{did_you_mean(dashed(name), known, str)}"


def _check_arguments(command: Command, words: Sequence[str]) -> None:
    """Refuses words that are empty, missing or too many."""
    expected = command.arguments
    needed = [each for each in expected if not each.optional]
    names = " ".join(each.name.upper() for each in expected)
    if len(words) > len(expected) and not (expected and expected[-1].many):
        raise UsageError(
            f"{words[len(expected)]!r} is one word too many: quickstudy {command.name} takes "
            f"{names or 'only options'}."
        )
    for place, argument in enumerate(expected):
        if any(not word for word in (words[place:] if argument.many else words[place : place + 1])):
            raise UsageError(f"The {argument.name} is empty; {argument.help} is needed.")
    if len(words) < len(needed):
        missing = needed[len(words)]
        raise UsageError(
            f"quickstudy {command.name} needs {missing.name.upper()}: {missing.help}.\n"
            f"usage: quickstudy {command.name} {names} [options]"
        )
