"""Parsers of commands; quick to import."""

from __future__ import annotations

import json
import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from quickstudy.cli.former_options import with_present_options
from quickstudy.deprecated import with_present_names
from quickstudy.errors import InputError, MissingFileError
from quickstudy.messages import UsageError, did_you_mean
from quickstudy.saving.trust import IMPORT_PATH, check_config
from quickstudy.saving.yaml_text import read_yaml, read_yaml_file

CLASS_OPTIONS = ("strategy", "encoder")
"""Options that name a class, whose arguments follow after a dot."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "tuple": "a range such as [5,20]",
}
"""The names of value types in messages."""

LARGEST_CONFIG_BYTES = 16 * 2**20
"""Maximum size of a configuration file; a trained tokenizer in it takes a megabyte."""


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser that takes options by their full names only."""
    return ArgumentParser(
        prog=f"quickstudy {command}",
        description=description,
        allow_abbrev=False,
        exit_on_error=False,
    )


def add_trust(parser: ArgumentParser) -> None:
    """Adds --trust; ``quickstudy/trust.py`` finds it among the words of the command."""
    parser.add_argument(
        "--trust",
        type=str | list[str] | None,
        help="import paths of classes outside quickstudy that a file may use; what --strategy and "
        "--encoder name is trusted anyway",
    )


def add_unreadable(parser: Any) -> None:
    """Adds --unreadable to a parser or a group of its options."""
    parser.add_argument(
        "--unreadable",
        type=Literal["refuse", "skip"],
        default="refuse",
        help="what to do about an example that cannot be read",
    )


def parse(
    parser: ArgumentParser, words: Sequence[str], config: Mapping[str, Any] | None = None
) -> Namespace:
    """Parses a command's words; what is wrong with them becomes a UsageError.

    Args:
        parser: of the command.
        words: typed after its name.
        config: options that apply unless the words override them.

    Raises:
        UsageError: naming the option.
        ValueError: naming the configuration file that cannot be read.
    """
    words = with_present_options(words)
    _check_nothing_is_empty(words)
    configs = [b for a, b in pairwise(words) if a == "--config"]
    configs += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    contents = {path: with_present_names(_read_yaml(Path(path))) for path in configs}
    if config is not None:
        check_config("The run's config", config)
    given = [*contents.values(), *([] if config is None else [config])]
    _admit_encoders(parser, words, given)
    try:
        before = [] if config is None else ["--config", _as_word(config, words)]
        with _defaults_for(parser, given, words):
            options = parser.parse_args([*before, *_with_configs(words, contents)])
    except ArgumentError as error:
        if any(word.startswith("--encoder.") for word in words) and "--encoder" not in words:
            raise UsageError(
                "Options of an encoder were given without the encoder: name it too, as in "
                "--encoder Conv4 --encoder.channels 32."
            ) from error
        said = (
            _unknown_options(str(error), parser)
            or _missing_options(str(error), parser)
            or _path_as_class(parser, words)
            or _in_words(str(error))
        )
        where = f" (options typed and from {', '.join(configs)})" if configs else ""
        raise UsageError(f"{said}{where}\nAll options: {parser.prog} --help") from error
    for action in parser._actions:
        if not action.option_strings and options.get(action.dest) == "":
            raise UsageError(f"The {action.dest} is empty; {action.help} is needed.")
    return options


def _admit_encoders(
    parser: ArgumentParser, words: Sequence[str], configs: Sequence[Mapping[str, Any]]
) -> None:
    """Lets ``--encoder`` take plain modules: any module class that is named is imported.

    Configurations were checked before; they name only trusted classes.

    Raises:
        UsageError: when the name is not that of a module class.
    """
    if "encoder" not in parser.get_defaults(skip_validation=True):
        return
    values = [config.get("encoder") for config in configs]
    values += [b for a, b in pairwise(words) if a == "--encoder"]
    values += [word.partition("=")[2] for word in words if word.startswith("--encoder=")]
    for path in filter(None, map(_class_path, values)):
        if re.search(r"\.py(:|$)", path):
            name = path.partition(":")[2] or "MyClass"
            raise UsageError(
                f"--encoder is {path!r}, a file; name the class by its import path from the file's "
                f"folder, as in --encoder {Path(path.partition(':')[0]).stem}.{name}."
            )
        if IMPORT_PATH.fullmatch(path) and not Path(path).exists():
            from quickstudy.encoders.own import own_class

            try:
                own_class(path)
            except ValueError as error:
                raise UsageError(str(error)) from error


def _check_nothing_is_empty(words: Sequence[str]) -> None:
    """Refuses empty values (UsageError): a path that is empty would be the current folder."""
    for before, word in pairwise(("", *words)):
        name, equals, value = word.partition("=")
        option = before if not word else name if equals and not value else ""
        if option.startswith("-") and option != "-":
            raise UsageError(f"{option} is empty; leave it out, or say what it is.")


def _missing_options(error: str, parser: ArgumentParser) -> str:
    """What to say of words that are missing; nothing if that was not the error."""
    _, found, missing = error.partition("the following arguments are required: ")
    if not found or error.startswith("Parser key"):
        return ""
    typed = {action.dest: "/".join(action.option_strings) for action in parser._actions}
    names = [typed.get(name) or name for name in missing.split(", ")]
    return f"the following arguments are required: {', '.join(names)}"


def _path_as_class(parser: ArgumentParser, words: Sequence[str]) -> str:
    """What to say of a file or folder in the place of a class; nothing where there is none."""
    from quickstudy.saving.foreign_files import explanation

    defaults = parser.get_defaults(skip_validation=True)
    for option in CLASS_OPTIONS:
        value = _typed_value(option, words)
        if option not in defaults or not value or not Path(value).exists():
            continue
        path = Path(value)
        if (path / "checkpoints").is_dir():
            return (
                f"--{option} is {value!r}, a run; the name of a class is needed. To go on from "
                f"what its encoder has learned, say --start_from {value}, with the options of "
                "--encoder that it was trained with."
            )
        foreign = explanation(path)
        if foreign and option == "encoder":
            return f"--{option} is a file; the name of a class is needed. {foreign}"
        what = "folder" if path.is_dir() else "file"
        return (
            f"--{option} is {value!r}, a {what}; the name of a class is needed. A class of your "
            "own is named by its import path, such as my_module.MyClass."
        )
    return ""


def _unknown_options(error: str, parser: ArgumentParser) -> str:
    """The message about options that the parser does not have; empty for other errors."""
    if not error.startswith("unrecognized arguments: "):
        return ""
    unknown = [word.partition("=")[0] for word in error.split() if word.startswith("--")]
    defaults = parser.get_defaults(skip_validation=True)
    known = [f"--{option}" for option in vars(defaults.as_flat())]
    return " ".join(
        f"There is no option {option}.{did_you_mean(option, known, str)}" for option in unknown
    )


def _in_words(error: str) -> str:
    """What the parser says, as a sentence where it is of one option or argument of a class."""
    option = ".".join(re.findall(r'Parser key "([\w.]+)":', error))
    # Of an argument of a class the parser speaks last, and then of the class once more.
    of_last = error.rpartition('Parser key "')[2]
    unknown = re.search(r"class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", of_last)
    if unknown:
        name = unknown[1].rpartition(".")[2]
        return f"{name} has no argument {unknown[2]!r}; --{option}.help {name} lists those it has."
    if no_path := re.search(r"Expected a dot import path string: (\S+)", of_last):
        return _no_such_class(option, no_path[1])
    if lacking := re.search(r"class_path '([\w.]+)':\s+.*are required: ([\w, ]+)", of_last):
        return needs(option, lacking[1], lacking[2].split(", "))
    if other := re.search(r"Import path ([\w.]+) does not correspond to a subclass", of_last):
        kind = "a strategy" if option == "strategy" else "an encoder"
        return f"--{option} is {other[1]!r}, which is not {kind}."
    if missing := re.search(r"class_path '([\w.]+)':\s+(.*(?:No module|no attribute).*)", of_last):
        return f"--{option} is {missing[1]!r}, which cannot be imported: {missing[2]}."
    until, value, *_ = [*re.split(r"\b(?:Got|Given) value: ", of_last, maxsplit=1), ""]
    expected = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", until)
    kinds = [f"one of {some}" if some else _KINDS.get(kind) for kind, some in expected]
    if not (option and kinds and all(kinds)):
        return error
    given = value.partition("\n")[0]
    return f"--{option} is {given!r}; it must be {' or '.join(map(str, kinds))}."


def needs(option: str, class_path: str, arguments: Sequence[str]) -> str:
    """The sentence for arguments of a class that have no default and were not given."""
    typed = " ".join(f"--{option}.{name} VALUE" for name in arguments)
    name, several = class_path.rpartition(".")[2], len(arguments) > 1
    return (
        f"{name} needs the argument{'s' if several else ''} {', '.join(map(repr, arguments))}; say "
        f"what {'they are' if several else 'it is'}: {typed}."
    )


def _no_such_class(option: str, name: str) -> str:
    """What to say of a class that is not known by its name."""
    from quickstudy import encoders, strategies

    listed, known, kind = "", encoders.__all__, "encoder"
    if option == "strategy":
        known, kind = strategies.__all__, option
        listed = " `quickstudy strategies` lists those there are."
    hint = did_you_mean(name, known, str)
    return (
        f"--{option} is {name!r}, and there is no such {kind}.{hint}{listed} A class of your own "
        "is named by its import path, such as my_module.MyClass."
    )


def _typed_class(option: str, words: Sequence[str]) -> str | None:
    """The name, without its module, of the class that was typed last for an option."""
    value = _typed_value(option, words)
    return _class_name(value) if value is not None else None


def _typed_value(option: str, words: Sequence[str]) -> str | None:
    """What was typed last for an option."""
    values = [b for a, b in pairwise(words) if a == f"--{option}"]
    values += [word.partition("=")[2] for word in words if word.startswith(f"--{option}=")]
    return values[-1] if values else None


def _class_name(value: Any) -> str | None:
    """The name of the class in an option's value, without its module."""
    path = _class_path(value)
    return path.rpartition(".")[2] if path is not None else None


def _class_path(value: Any) -> str | None:
    """The class in an option's value: a name, a description, or either as text."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = read_yaml(value, "What is typed for a class")
    path = value.get("class_path") if isinstance(value, Mapping) else value
    return path if isinstance(path, str) else None


def _of_same_classes(config: Mapping[str, Any], words: Sequence[str]) -> Mapping[str, Any]:
    """A configuration without the classes that the command line replaces.

    The parser would pass an argument of the old class, and even its default, to a new class that
    has an argument of the same name.
    """
    typed = {option: _typed_class(option, words) for option in CLASS_OPTIONS}
    return {
        option: value
        for option, value in config.items()
        if typed.get(option) in (None, _class_name(value))
    }


def _as_word(config: Mapping[str, Any], words: Sequence[str]) -> str:
    return json.dumps(_of_same_classes(config, words), default=str)


def _with_configs(words: Sequence[str], contents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The words, with what holds of the content of each file in the file's place."""
    found = list(words)
    for number, word in enumerate(words):
        path = word.partition("=")[2] if word.startswith("--config=") else word
        is_file = word.startswith("--config=") or words[number - 1 : number] == ["--config"]
        if is_file:
            text = _as_word(contents[path], words)
            found[number] = f"--config={text}" if word.startswith("--config=") else text
    return found


@contextmanager
def _defaults_for(
    parser: ArgumentParser, configs: Sequence[Mapping[str, Any]], words: Sequence[str]
) -> Iterator[None]:
    """Leaves out the default of an option for which another class is named."""
    defaults = parser.get_defaults(skip_validation=True)
    named = {
        option: None
        for option in CLASS_OPTIONS
        if option in defaults
        and (_typed_class(option, words) or any(option in config for config in configs))
    }
    before = {option: parser.get_default(option) for option in named}
    before = {
        option: default.as_dict() if isinstance(default, Namespace) else default
        for option, default in before.items()
    }
    parser.set_defaults(named)
    try:
        yield
    finally:
        parser.set_defaults(before)


def _read_yaml(path: Path) -> dict[str, Any]:
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
    check_config(f"The configuration file {path}", options)
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
