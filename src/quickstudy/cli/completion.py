"""Completion of commands and options in a shell, written by the library shtab."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from quickstudy.cli.command import Command, choices
from quickstudy.messages import UsageError


def completion(commands: Mapping[str, Command], words: Sequence[str]) -> str:
    """The script that lets a shell complete ``quickstudy``.

    Args:
        commands: all of them.
        words: the shell's name: bash, zsh or tcsh.

    Raises:
        UsageError: for other shells.
        ImportError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            "Completion needs the package shtab: pip install 'quickstudy[completion]'."
        ) from error

    if len(words) != 1 or words[0] not in shtab.SUPPORTED_SHELLS:
        raise UsageError(
            f"--print-completion needs the name of a shell: {', '.join(shtab.SUPPORTED_SHELLS)}."
        )
    parser = argparse.ArgumentParser("quickstudy", description="Few-shot learning.")
    names = parser.add_subparsers()
    for command in commands.values():
        own = names.add_parser(command.name, help=command.summary, description=command.summary)
        own.add_argument("--help-all", action="store_true", help="show all options")
        for option in command:
            typed = [*filter(None, (option.short, option.typed))]
            help_ = option.help.replace("%", "%%")
            if option.flag:
                own.add_argument(*typed, action="store_true", help=help_)
            else:
                action = own.add_argument(*typed, help=help_, choices=choices(option.type) or None)
                if option.metavar in ("FILE", "FOLDER", "RUN") or option.name == "data":
                    action.complete = shtab.FILE  # type: ignore[attr-defined]
        for argument in command.arguments:
            files = own.add_argument(argument.name, nargs="*")
            files.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, words[0]))
