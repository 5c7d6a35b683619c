"""The text of ``--help``, generated from the declarations of the commands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from quickstudy.cli.command import Argument, Command, Option
from quickstudy.cli.reading import Given

WIDTH = 80
COLUMN = 26
"""Where the explanations begin."""


def usage(commands: Mapping[str, Command]) -> str:
    """The text of ``quickstudy --help``."""
    lines = "\n".join(f"  {each.name:<10} {each.summary}" for each in commands.values())
    return f"""usage: quickstudy COMMAND [options]

Few-shot learning by meta-learning.

commands:
{lines}

quickstudy help COMMAND shows what a command takes. Exit codes: 0 success,
1 failure, 2 wrong usage, 130 stopped by Ctrl-C. -V prints the version,
--print-completion {{bash,zsh,tcsh}} a script for the shell."""


def help_asked_for(given: Given) -> str:
    """What ``--help``, ``--help-all`` or ``--strategy.help`` prints."""
    if given.help in ("main", "all"):
        return help_of(given.command, complete=given.help == "all")
    from quickstudy.cli.classes import help_of_class

    option = given.command.options[given.help]
    named = given.options.get(option.name) or option.default
    return help_of_class(option.name, option.base or "encoder", named)


def help_of(command: Command, complete: bool = False) -> str:
    """The text of ``quickstudy COMMAND --help``; ``complete`` is ``--help-all``."""
    words = "".join(f" {_place(each)}" for each in command.arguments)
    lines = [f"usage: quickstudy {command.name}{words} [options]", ""]
    lines += textwrap.wrap(command.description, WIDTH)
    if command.arguments:
        lines.append("")
        for argument in command.arguments:
            lines += _entry(argument.name.upper(), argument.help)
    hidden = [option for option in command if not option.main]
    if complete:
        for group in command.groups:
            lines += ["", f"{group.title}:", *_entries(group.options)]
    else:
        main = [option for option in command if option.main]
        lines += ["", "options:", *_entries(main)] if main else []
    if hidden and not complete:
        lines += _entry("--help-all", f"show all {len(main) + len(hidden)} options")
    return "\n".join(lines)


def _place(argument: Argument) -> str:
    name = argument.name.upper() + (" ..." if argument.many else "")
    return f"[{name}]" if argument.optional else name


def _entries(options: Iterable[Option]) -> list[str]:
    return [line for option in options for line in _entry(_typed(option), _explained(option))]


def _typed(option: Option) -> str:
    both = ", ".join(filter(None, (option.short, option.typed)))
    return f"{both} {option.value_name}".strip()


def _explained(option: Option) -> str:
    default = option.default
    if default is None or default is False or option.flag:
        return option.help
    said = {True: "true"}.get(default, default) if isinstance(default, bool) else default
    return f"{option.help} (default: {said})"


def _entry(left: str, right: str) -> list[str]:
    """One name with its explanation, which begins in its own column."""
    wrapped = textwrap.wrap(right, WIDTH - COLUMN)
    if len(left) > COLUMN - 4:
        return [f"  {left}", *(" " * COLUMN + line for line in wrapped)]
    first, *others = wrapped
    return [f"  {left:<{COLUMN - 2}}{first}", *(" " * COLUMN + line for line in others)]
