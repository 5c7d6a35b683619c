"""The words of a command line, read once: which are options, values and arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from quickstudy.cli.command import Command, Option, dashed
from quickstudy.deprecated import FORMER_OPTIONS
from quickstudy.messages import UsageError, did_you_mean

FORMER_FLAGS = {"reject": "0.95"}
"""Former options without a value, and the value that they stand for unless another is given."""


NAMING_CLASSES = ("trust", "strategy", "encoder", "optimizer")
"""Options whose values name classes; typed values are trusted."""


@dataclass(frozen=True)
class Given:
    """The words that were typed after the name of a command.

    Args:
        command: what the command takes.
        arguments: words that are no options, in their order.
        options: name (with underscores) and value of each option, in their order. A flag's value is
            True.
        help: whether help was asked for, and how much.
    """

    command: Command
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    help: Literal["", "main", "all"] = ""

    def value(self, name: str) -> Any:
        """The value that was typed last for an option; None if it was not given."""
        return dict(self.options).get(name)

    def values(self, name: str) -> list[Any]:
        """All values that were typed for an option."""
        return [value for each, value in self.options if each == name]

    def arguments_of(self, name: str) -> dict[str, Any]:
        """The values of ``--name.ARGUMENT``, by argument."""
        return {
            each.removeprefix(f"{name}."): value
            for each, value in self.options
            if each.startswith(f"{name}.")
        }

    def without_arguments_of(self, name: str) -> Given:
        """The same words without ``--name.ARGUMENT``."""
        kept = tuple(each for each in self.options if not each[0].startswith(f"{name}."))
        return replace(self, options=kept)

    def naming_classes(self) -> list[str]:
        """All typed values that name classes; the user trusts these classes."""
        typed = [value for name, value in self.options if name.partition(".")[0] in NAMING_CLASSES]
        if any(argument.classes for argument in self.command.arguments):
            # compare names classes, sweep writes strategy=CLASS,CLASS
            typed += [word.rpartition("=")[2] for word in self.arguments if not Path(word).exists()]
        return [value for value in typed if isinstance(value, str)]

    def changed(self, *before: tuple[str, Any], **after: Any) -> Given:
        """With further options: some that those typed override, some that override them."""
        return replace(self, options=(*before, *self.options, *after.items()))


def read(command: Command, words: Sequence[str]) -> Given:
    """Reads the words after a command's name.

    Dashes and underscores in the names of options are the same; former names are accepted with a
    line on standard error.

    Raises:
        UsageError: an option is not known or has no value, or words are missing or too many.
    """
    arguments: list[str] = []
    options: list[tuple[str, Any]] = []
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "--":
            arguments += reversed(waiting)
            break
        if not _is_option(word, command):
            arguments.append(word)
            continue
        typed, equals, value = word.partition("=")
        if typed in ("-h", "--help", "--help-all"):
            return Given(command, help="all" if typed == "--help-all" else "main")
        name, option = _known(typed, command)
        if typed[2:] in FORMER_FLAGS and name != typed[2:]:
            options.insert(0, (name, FORMER_FLAGS[typed[2:]]))
            continue
        if equals:
            options.append((name, _not_empty(typed, value)))
        elif option.flag or (
            option.type is bool and (not waiting or _is_option(waiting[-1], command))
        ):
            options.append((name, True))
        elif name.endswith(".help"):
            named = bool(waiting) and not _is_option(waiting[-1], command)
            options.append((name, waiting.pop() if named else ""))
        elif not waiting or _is_option(waiting[-1], command):
            raise UsageError(f"{typed} needs a value: {typed} {option.value_name}.")
        else:
            options.append((name, _not_empty(typed, waiting.pop())))
    given = Given(command, tuple(arguments), tuple(options))
    _check_arguments(given)
    return given


def _is_option(word: str, command: Command) -> bool:
    return (
        word.startswith("--")
        or word == "-h"
        or word in [each.short for each in command if each.short]
    )


def _known(typed: str, command: Command) -> tuple[str, Option]:
    """An option's present name, and what is known of it."""
    for option in command:
        if typed == option.short:
            return option.name, option
    name = typed[2:]
    first, dot, rest = name.partition(".")
    owner = command.find(first.replace("-", "_"))
    if dot and owner is not None and owner.free:
        return f"{owner.name}.{rest}", owner
    name = name.replace("-", "_")
    present = FORMER_OPTIONS.get(name)
    if present is not None and command.find(present):
        _note_former(name, present)
        name = present
    option_ = command.find(name)
    if option_ is not None:
        return name, option_
    if dot and owner is not None and owner.base:
        return name, owner
    raise UsageError(unknown([typed], command))


def _note_former(name: str, present: str) -> None:
    from quickstudy.cli.output import complain

    complain(
        f"quickstudy: --{dashed(name)} is now --{dashed(present)}; the old name works until "
        "version 1.0."
    )


def unknown(names: Iterable[str], command: Command) -> str:
    """The message about options that a command does not have."""
    known = [option.typed for option in command]
    return " ".join(
        f"There is no option {name}.{did_you_mean(name.replace('_', '-'), known, str)}"
        for name in names
    )


def _not_empty(typed: str, value: str) -> str:
    """Refuses empty values: a path that is empty would be the current folder."""
    if not value:
        raise UsageError(f"{typed} is empty; leave it out, or say what it is.")
    return value


def _check_arguments(given: Given) -> None:
    """Refuses words that are empty, missing or too many."""
    command, words = given.command, given.arguments
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
    present = {name for name, _ in given.options}
    for option in command:
        if option.required and option.name not in present:
            both = "/".join(filter(None, (option.short, option.typed)))
            raise UsageError(f"quickstudy {command.name} needs {both}: {option.help}.")
