"""Options that name a class: finding it, and parsing its arguments."""

from __future__ import annotations

import importlib
import inspect
import warnings
from argparse import ArgumentError
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from torch import nn

from quickstudy import encoders, strategies
from quickstudy.cli.command import Base, dashed, expected
from quickstudy.encoders.own import own_class
from quickstudy.errors import InputError
from quickstudy.messages import UsageError, did_you_mean, reason
from quickstudy.saving.description import Description, class_path
from quickstudy.saving.foreign_files import explanation
from quickstudy.saving.yaml_text import read_yaml

DERIVED: dict[Base, frozenset[str]] = {
    "strategy": frozenset({"encoder", "ways", "classes"}),
    "encoder": frozenset({"input_shape", "vocabulary", "rate"}),
}
"""Arguments that follow from the data and the task, so that nobody gives them."""


def joined(before: Any, argument: str, value: Any) -> Description | None:
    """A description after one more option was read.

    Args:
        before: the class that was known, by name or description.
        argument: argument of the class; empty if ``value`` names the class itself.
        value: for the argument, or a class: its name, or a description, as text or dictionary.
            The arguments of another class are dropped, because some can have the same names.
    """
    old: Description = {"class_path": before} if isinstance(before, str) else before or {}
    argument = argument.removeprefix("init_args.")
    known = old.get("init_args") or {}
    if argument not in ("", "class_path"):
        return {**old, "init_args": {**known, argument: value}}
    while isinstance(value, str):
        try:
            inside = read_yaml(value, "The class")
        except InputError:
            break
        if inside == value or not isinstance(inside, str | Mapping | None):
            break
        value = inside
    if value is None:
        return None
    new = dict(value) if isinstance(value, Mapping) else {"class_path": value}
    path = new.setdefault("class_path", old.get("class_path"))
    kept = known if _short(path) == _short(old.get("class_path")) else {}
    return {**new, "init_args": {**kept, **(new.get("init_args") or {})}}


def _short(path: Any) -> str:
    return str(path).rpartition(".")[2]


def described(option: str, base: Base, given: Mapping[str, Any]) -> Description:
    """The class that was named, by its public place, and all its arguments with their values.

    Args:
        option: its name, as in ``strategy`` or ``strategy.learner``.
        base: what the class must be.
        given: the class and its arguments, as typed or as files hold them.

    Raises:
        UsageError: there is no such class, or an argument is unknown, missing or does not fit.
    """
    cls = find_class(option, base, given.get("class_path"))
    modules = _module_arguments(cls) - DERIVED[base]
    arguments: dict[str, Any] = {}
    nested: dict[str, Description | None] = {}
    for written, value in (given.get("init_args") or {}).items():
        name = written.replace("-", "_")
        first, _, rest = name.partition(".")
        if first in modules:
            nested[first] = joined(nested.get(first), rest, value)
        elif name not in DERIVED[base]:
            arguments[name] = value
    check_given(option, cls, {*arguments, *nested, *DERIVED[base]})
    try:
        values = _parser(cls, modules | DERIVED[base]).parse_object(arguments).as_dict()
    except ArgumentError as error:
        _refuse(option, base, cls, arguments)
        raise UsageError(f"--{option}: {reason(error)}") from error
    for name, description in nested.items():
        if description:
            values[name] = described(f"{option}.{name}", "encoder", description)
    return {"class_path": class_path(cls), "init_args": values}


def _refuse(option: str, base: Base, cls: type, arguments: Mapping[str, Any]) -> None:
    """Refuses (UsageError) the first argument that the class does not have or accept."""
    names, hints = argument_names(cls) - DERIVED[base], _hints(cls)
    for name, value in arguments.items():
        first = name.partition(".")[0]
        if first not in names:
            raise UsageError(
                f"{cls.__name__} has no argument {name!r}.{did_you_mean(name, names, str)} "
                f"--{option}.help {cls.__name__} lists its arguments."
            )
        alone = _parser(cls, (names | DERIVED[base]) - {first})
        check_value(f"{option}.{name}", value, hints.get(name), alone, {name: value})


def argument_names(cls: type) -> set[str]:
    """The arguments of a class, including those behind its ``**options``."""
    return set(vars(_parser(cls, frozenset()).get_defaults(skip_validation=True)))


def _parser(
    cls: type, skip: set[str] | frozenset[str], prefix: str | None = None
) -> ArgumentParser:
    """A parser of the arguments of a class, with ``prefix`` and a dot before their names."""
    parser = ArgumentParser(exit_on_error=False, add_help=False)
    with warnings.catch_warnings():
        # The parser looks for the shortest path to the class, among our former names too.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Arguments of a class of one's own often have no types.
        parser.add_class_arguments(cls, prefix, skip=set(skip), fail_untyped=False)
    return parser


def help_of_class(option: str, base: Base, given: Any) -> str:
    """The arguments of a class, as ``--strategy.help NAME`` prints them."""
    description = joined(None, "", given) or {}
    cls = find_class(option, base, description.get("class_path"))
    parser = _parser(cls, DERIVED[base], option)
    parser.usage = f"--{option} {cls.__name__} [options]"
    return str(parser.format_help())


def check_value(
    name: str, value: Any, type_: Any, parser: ArgumentParser, given: Mapping[str, Any]
) -> None:
    """Refuses (UsageError) a value that its option alone does not accept."""
    try:
        parser.parse_object(dict(given), _skip_required=True)
    except ArgumentError as error:
        must = expected(type_)
        raise UsageError(
            f"--{dashed(name)} is {value!r}; it must be {must}."
            if must
            else f"--{dashed(name)} is {value!r}, which does not fit: {reason(error)}"
        ) from error


def check_given(option: str, cls: type, given: Collection[str]) -> None:
    """Refuses (UsageError) a class whose arguments without defaults are not all given."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    missing = []
    for name, parameter in inspect.signature(cls).parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in by_name
        if required and name not in given:
            missing.append(name)
    if missing:
        typed = " ".join(f"--{option}.{name} VALUE" for name in missing)
        several = len(missing) > 1
        raise UsageError(
            f"{cls.__name__} needs the argument{'s' if several else ''} "
            f"{', '.join(map(repr, missing))}; say what {'they are' if several else 'it is'}: "
            f"{dashed(typed)}."
        )


def _hints(cls: type) -> dict[str, Any]:
    """The types of a class's arguments; none if they cannot be found."""
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
        for hint in [each for each in hints.values() if get_origin(each) is Unpack]:
            hints |= get_type_hints(get_args(hint)[0])  # of **options, as a TypedDict
        return hints
    except (NameError, TypeError, AttributeError):  # of names for type checkers alone
        return {}


def _module_arguments(cls: type) -> set[str]:
    """The arguments of a class that are modules, which are described like the class itself."""
    found = set()
    for name, hint in _hints(cls).items():
        for each in (hint, *get_args(hint)):
            if isinstance(each, type) and issubclass(each, nn.Module):
                found.add(name)
    return found


def find_class(option: str, base: Base, path: Any) -> type[nn.Module]:
    """The class that an option names.

    Raises:
        UsageError: it cannot be found, or is of another kind.
    """
    public: Any = strategies if base == "strategy" else encoders
    if not isinstance(path, str) or not path:
        raise UsageError(
            f"Options of an {option} were given without the {option}: name it too, as in "
            f"--{option} Conv4 --{option}.channels 32."
        )
    name = path.removeprefix("quickstudy.").removeprefix(f"{public.__name__.partition('.')[2]}.")
    if name in public.__all__:
        cls = getattr(public, name)
    elif Path(path).exists() or "/" in path:
        raise UsageError(_path_as_class(option, base, path))
    elif is_python_file(path):
        file, _, wanted = path.partition(":")
        raise UsageError(
            f"--{option} is {path!r}, a file; name the class by its import path from the file's "
            f"folder, as in --{option} {Path(file).stem}.{wanted or 'MyClass'}."
        )
    elif "." not in path:
        raise UsageError(_no_such_class(option, base, path, public.__all__))
    else:
        cls = _imported(option, base, path)
    kind = strategies.Strategy if base == "strategy" else nn.Module
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise UsageError(
            f"--{option} is {path!r}, which is not {'a' if base == 'strategy' else 'an'} {base}."
        )
    return cls


def is_python_file(path: str) -> bool:
    """Whether a file is named in the place of a class, as in ``my_module.py:MyClass``."""
    return path.partition(":")[0].endswith(".py")


def _imported(option: str, base: Base, path: str) -> Any:
    if base == "encoder":
        try:
            return own_class(path)
        except InputError as error:
            raise UsageError(str(error)) from error
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the module's own code may fail in any way
        raise UsageError(
            f"--{option} is {path!r}, which cannot be imported: {reason(error)}"
        ) from error


def _no_such_class(option: str, base: Base, name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known, str)
    listed = " `quickstudy strategies` lists those there are." if base == "strategy" else ""
    return (
        f"--{option} is {name!r}, and there is no such {base}.{hint}{listed} A class of your own "
        "is named by its import path, such as my_module.MyClass."
    )


def _path_as_class(option: str, base: Base, value: str) -> str:
    """The message for a file or folder given instead of a class."""
    path = Path(value)
    if not path.exists():
        return f"--{option} is {value!r}, and there is no such file; the name of a class is needed."
    if (path / "checkpoints").is_dir():
        return (
            f"--{option} is {value!r}, a run; the name of a class is needed. To go on from "
            f"what its encoder has learned, say --start-from {value}, with the options of "
            "--encoder that it was trained with."
        )
    foreign = explanation(path)
    if foreign and base == "encoder":
        return f"--{option} is a file; the name of a class is needed. {foreign}"
    return (
        f"--{option} is {value!r}, a {'folder' if path.is_dir() else 'file'}; the name of a class "
        "is needed. A class of your own is named by its import path, such as my_module.MyClass."
    )
