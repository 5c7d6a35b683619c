"""Merges typed options and configuration files into one dictionary and parses it."""

from __future__ import annotations

import json
from argparse import ArgumentError
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace

from quickstudy.cli.classes import check_value, described, joined
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
    command, paths = given.command, given.options.get("config", [])
    options: dict[str, Any] = {}
    _merge(command, options, config or {})
    for path in paths:
        _merge(command, options, _read_config(Path(path)))
    if options:
        where = f"configuration file {', '.join(paths)}" if paths else "run's config"
        check_config(f"The {where}", options)
    try:
        _merge(command, options, given.options)
        found = _typed(command, options)
    except UsageError as error:
        where = f" (options typed and from {', '.join(paths)})" if paths else ""
        text = f"{error}{where}\nAll options: quickstudy {command.name} --help-all"
        raise UsageError(text) from error
    for place, argument in enumerate(command.arguments):
        words = given.arguments[place:]
        found[argument.name] = list(words) if argument.many else next(iter(words), None)
    if found.get("print_config"):
        print(yaml.safe_dump(config_of(command, found), sort_keys=False), end="")
        raise SystemExit(0)
    return found


def config_of(command: Command, options: Namespace) -> dict[str, Any]:
    """The options that a configuration file holds, as plain values."""
    kept: dict[str, Any] = plain(options)
    saved = {name.partition(".")[0] for name in command.options}
    # Do not reveal to others what is trusted.
    for name in kept.keys() - (saved - {"config", "print_config", "trust"}):
        del kept[name]
    return kept


def plain(options: Any) -> Any:
    """Options as files hold them: dictionaries, lists and plain values."""
    return json.loads(json.dumps(options, default=_as_json))


def _as_json(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else str(value)


def _merge(command: Command, into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Adds options, which override those there are; a class keeps its arguments if it stays."""
    for written in sorted(more):  # so that a class comes before its arguments
        name, value = FORMER_OPTIONS.get(written, written), more[written]
        first, _, rest = name.partition(".")
        option = command.options.get(first)
        if option is not None and option.base:
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


def _typed(command: Command, options: dict[str, Any]) -> Namespace:
    """All options with their types, those that are not given with their defaults."""
    for name in options:
        if name not in command.options:
            raise UsageError(unknown(f"--{name}", command))
    for option in command:
        if option.required and option.name not in options:
            both = "/".join(filter(None, (option.short, option.typed)))
            raise UsageError(f"quickstudy {command.name} needs {both}: {option.help}.")
    of_classes = [option for option in command if option.base]
    given = dict(options)
    for option in of_classes:
        given.pop(option.name, None)
    others = [option for option in command if not option.base]
    try:
        found: Namespace = _parser(others).parse_object(given)
    except ArgumentError as error:
        for name, value in given.items():
            alone = command.options[name]
            check_value(name, value, alone.type, _parser([alone]), {name: value})
        raise UsageError(reason(error)) from error
    for option in of_classes:
        chosen = options.get(option.name, option.default)
        if isinstance(chosen, str):
            chosen = {"class_path": chosen}
        base = option.base or "encoder"
        found[option.name] = described(option.name, base, chosen) if chosen else None
    return found


def _parser(options: Iterable[Option]) -> ArgumentParser:
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
