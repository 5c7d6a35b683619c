"""Merges typed options and configuration files into one dictionary and parses it."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace

from quickstudy.cli.command import Command, Option
from quickstudy.cli.reading import Given, unknown
from quickstudy.deprecated import FORMER_OPTIONS
from quickstudy.errors import InputError, MissingFileError
from quickstudy.messages import UsageError, reason
from quickstudy.saving.trust import check_config
from quickstudy.saving.yaml_text import read_yaml, read_yaml_file

LARGEST_CONFIG_BYTES = 16 * 2**20
"""Maximum size of a configuration file; a trained tokenizer in it takes a megabyte."""


def parsed(given: Given, config: Mapping[str, Any] | None = None) -> Namespace:
    """The options of a command, with values of their types.

    Args:
        given: the typed words; their ``--config`` files are read.
        config: options that apply unless files or typed ones override them.

    Raises:
        UsageError: naming the option that is wrong.
        ValueError: naming the configuration file that cannot be read.
    """
    command, paths = given.command, given.values("config")
    _show_help_of_classes(given)
    options: dict[str, Any] = {}
    for path in paths:
        _merge(command, options, _read_config(Path(path)))
    if config is not None:
        options = _merge(command, _merge(command, {}, config), options)
    if options:
        where = f"configuration file {', '.join(paths)}" if paths else "run's config"
        check_config(f"The {where}", options)
    classes_first = sorted(given.options, key=lambda each: "." in each[0])
    try:
        _merge(command, options, dict(classes_first))
        found = _parsed(command, options)
    except UsageError as error:
        where = f" (options typed and from {', '.join(paths)})" if paths else ""
        text = f"{error}{where}\nAll options: quickstudy {command.name} --help-all"
        raise UsageError(text) from error
    for place, argument in enumerate(command.arguments):
        words = given.arguments[place:]
        found[argument.name] = list(words) if argument.many else next(iter(words), None)
    if given.value("print_config"):
        print(yaml.safe_dump(config_of(command, found), sort_keys=False), end="")
        raise SystemExit(0)
    return found


def _show_help_of_classes(given: Given) -> None:
    """Prints what ``--strategy.help`` asks for, if it was given, and ends the command."""
    for option in given.command:
        asked = given.value(f"{option.name}.help")
        if option.base and asked is not None:
            from quickstudy.cli.classes import help_of_class

            named = asked or given.value(option.name) or option.default
            print(help_of_class(option.name, option.base, named))
            raise SystemExit(0)


def config_of(command: Command, options: Namespace) -> dict[str, Any]:
    """The options that a configuration file holds, as plain values."""
    names = {each.name.partition(".")[0] for each in command if each.type is not None}
    kept = {name: plain(options[name]) for name in options.__dict__ if name in names}
    for name in ("config", "print_config", "trust"):  # do not reveal to others what is trusted
        kept.pop(name, None)
    return kept


def plain(options: Any) -> Any:
    """Namespaces and paths as dictionaries and strings."""
    if isinstance(options, Namespace):
        options = options.as_dict()
    if isinstance(options, dict):
        return {key: plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [plain(value) for value in options]
    return str(options) if isinstance(options, Path) else options


def _merge(command: Command, into: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Adds options, which override those there are; a class keeps its arguments if it stays."""
    for written, value in more.items():
        name = FORMER_OPTIONS.get(written, written)
        first, _, rest = name.partition(".")
        option = command.find(first)
        if option is not None and option.base:
            from quickstudy.cli.classes import joined  # which imports torch

            into[first] = joined(into.get(first, option.default), rest, value)
        elif option is not None and rest and option.free:
            before = into.get(first)
            before = read_yaml(before, f"--{first}") if isinstance(before, str) else before
            inside = read_yaml(value, f"--{name}") if isinstance(value, str) else value
            any_type = get_args(option.type)[-1] is Any
            keeps = isinstance(inside, list) or any_type  # else "7" is a text, as columns hold it
            into[first] = {**(before or {}), rest: inside if keeps else value}
        elif option is None and not rest and isinstance(value, Mapping):
            into |= {f"{first}.{key}": each for key, each in value.items()}
        else:
            into[name] = value
    return into


def _parsed(command: Command, options: dict[str, Any]) -> Namespace:
    """All options with their types, those that are not given with their defaults."""
    wrong = [name for name in options if command.find(name) is None]
    if wrong:
        raise UsageError(unknown([f"--{name}" for name in wrong], command))
    plain_ones = [each for each in command if not each.base]
    given = {each.name: options[each.name] for each in plain_ones if each.name in options}
    try:
        found: Namespace = _parser(plain_ones).parse_object(given)
    except ArgumentError as error:
        from quickstudy.cli.classes import check_value

        for each in plain_ones:
            if each.name in given:
                value = given[each.name]
                check_value(each.name, value, each.type, _parser([each]), {each.name: value})
        raise UsageError(reason(error)) from error
    for option in command:
        if option.base:
            value = options.get(option.name, option.default)
            found[option.name] = _class(option, value)
    return found


def _class(option: Option, value: Any) -> Namespace | None:
    from quickstudy.cli.classes import described, joined

    given = joined(None, "", value)
    if given is None or option.base is None:
        return None
    description = described(option.name, option.base, given)
    return Namespace(**description)  # type: ignore[no-untyped-call]


def _parser(options: list[Option]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    for option in options:
        parser.add_argument(f"--{option.name}", type=option.type, default=option.default)
    return parser


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"There is no configuration file {path}.")
    if path.stat().st_size > LARGEST_CONFIG_BYTES:
        raise InputError(f"The configuration file {path} is larger than 16 MiB.")
    content = read_yaml_file(path, f"The configuration file {path}")
    if not isinstance(content, dict):
        raise InputError(
            f"The configuration file {path} should hold lines like `steps: 1000`; it holds "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}."
        )
    options: dict[str, Any] = _with_underscores(content)
    return options


def _with_underscores(
    content: Any, column: bool = False, made: dict[tuple[int, bool], Any] | None = None
) -> Any:
    """Option names with dashes as the parser spells them; column names are unchanged.

    What a file repeats by aliases (``*name``) is copied once, since a short file can repeat it
    billions of times.
    """
    made = {} if made is None else made
    if not isinstance(content, dict | list):
        return content
    if (known := made.get((id(content), column))) is not None:
        return known
    copied: Any = type(content)()
    made[id(content), column] = copied
    if isinstance(content, list):
        copied.extend(_with_underscores(each, False, made) for each in content)
        return copied
    for key, value in content.items():
        name = key if column else str(key).replace("-", "_")
        copied[name] = _with_underscores(value, key == "where", made)
    return copied
