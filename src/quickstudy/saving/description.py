"""Modules as plain data: a class and its arguments, enough to build the module again.

A description is ``{"class_path": "quickstudy.strategies.MAML", "init_args": {...}}``, the form that
configuration files use. Like scikit-learn's estimators, a module that wants to be described keeps
each constructor argument in an attribute of the same name. ``verifying.py`` checks whether a module
rebuilt from it is the same.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from quickstudy.errors import InputError

Description = dict[str, Any]

LONGEST_SHOWN = 200
"""Characters of a value that messages show."""


def class_path(cls: type) -> str:
    """Where a class is imported from; its room's public name for classes of this package."""
    module = cls.__module__
    if module.startswith("quickstudy."):
        room = ".".join(module.split(".")[:2])
        if getattr(importlib.import_module(room), cls.__qualname__, None) is cls:
            module = room
    return f"{module}.{cls.__qualname__}"


def describe(module: nn.Module) -> Description:
    """The class of ``module`` and its constructor's arguments, modules among them described too.

    Raises:
        ValueError: when its class cannot be found by its name, or an argument is not kept in an
            attribute of its name, or is kept as something that files cannot hold.
    """
    cls = type(module)
    _check_importable(cls)
    arguments = {
        name: _plain(value, f"{cls.__name__}.{name}") for name, value in _arguments(module).items()
    }
    return {"class_path": class_path(cls), "init_args": arguments}


def described_modules(module: nn.Module) -> list[nn.Module]:
    """``module`` and the modules among its arguments, and theirs: all that have a description."""
    found, waiting = [module], list(_arguments(module).values())
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, nn.ModuleList | nn.ModuleDict):
            value = _contents(value)
        if isinstance(value, nn.Module):
            found.append(value)
            waiting += _arguments(value).values()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return found


def _arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments of a module's constructor by name, read from its attributes.

    Further arguments (``*sizes``, ``**options``) are a sequence or dictionary in the attribute of
    that name; without it, the module counts as made without them.
    """
    arguments = {}
    for name, parameter in _parameters(type(module)).items():
        if parameter.kind in _FURTHER:
            kept = getattr(module, name, None)
            if isinstance(kept, _FURTHER[parameter.kind]) and not isinstance(kept, nn.Module):
                arguments[name] = kept
        elif hasattr(module, name):
            arguments[name] = getattr(module, name)
        else:
            raise InputError(
                f"{type(module).__name__} cannot be described, so anything saved with it could not "
                f"be loaded again: keep its argument `{name}` in an attribute of that name."
            )
    return arguments


_FURTHER: dict[Any, Any] = {
    inspect.Parameter.VAR_POSITIONAL: list | tuple,
    inspect.Parameter.VAR_KEYWORD: Mapping,
}


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class's constructor except the first, the object itself."""
    return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])  # type: ignore[misc]


def _check_importable(cls: type) -> None:
    """Refuses a class that cannot be found by its name."""
    if "." in cls.__qualname__:
        raise InputError(
            f"The class {cls.__name__} is defined inside {cls.__qualname__.rpartition('.')[0]!r}, "
            "where a file cannot refer to it. Define it at the top level of a module."
        )
    if getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls:
        raise InputError(
            f"The class {cls.__name__} is no longer the one that {cls.__module__}.{cls.__name__} "
            "names, so a file cannot refer to it. If you have redefined it, create the object "
            "again."
        )


def _contents(modules: nn.ModuleList | nn.ModuleDict) -> list[nn.Module] | dict[str, nn.Module]:
    """Modules that were given as a list or dictionary and are stored as torch's counterpart."""
    return list(modules) if isinstance(modules, nn.ModuleList) else dict(modules.items())


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, nn.ModuleList | nn.ModuleDict):
        value = _contents(value)
    if isinstance(value, nn.Module):
        return describe(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, where) for key, entry in value.items()}
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__}, which cannot be written to a file. Pass a number, a "
        "string, a list, a dictionary or a module instead, and create the rest from it in the "
        "constructor."
    )


def described_class(description: Mapping[str, Any]) -> type[nn.Module]:
    """The class that ``description`` names.

    Raises:
        ValueError: when it is not a description, or names no importable module class.
    """
    path = description.get("class_path") if isinstance(description, Mapping) else None
    if not isinstance(path, str):
        raise InputError(
            "A description of a module is needed, with a class_path; this is "
            f"{_brief(description)}."
        )
    module_name, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError, OverflowError) as error:
        if module_name == "__main__":
            raise InputError(
                f"The class {name} was defined in the script that saved this, so only that script "
                "can load it. Move the class to a module of its own, and save it from there."
            ) from error
        raise InputError(
            f"The class {description['class_path']!r} cannot be imported ({error}). Is the package "
            "that defines it installed?"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"{description['class_path']!r} is not a torch module.")
    return cls


def build(description: Mapping[str, Any], made: Mapping[int, nn.Module] | None = None) -> nn.Module:
    """Makes the module that ``description`` describes.

    Args:
        description: description of the module.
        made: modules that exist already, by the ``id`` of their part of the description.

    Raises:
        ValueError: when it is not a description, or names no importable module class.
    """
    if made and id(description) in made:
        return made[id(description)]
    cls = described_class(description)
    given = description.get("init_args") or {}
    arguments = _built(given, made)
    if not isinstance(arguments, dict) or not set(map(type, arguments)) <= {str}:
        raise InputError(
            f"{cls.__name__} cannot be made from {_brief(given)}: arguments have names."
        )
    try:
        return _called(cls, arguments)
    except (ValueError, OSError, ImportError, MemoryError):
        raise  # in words of its own
    except Exception as error:  # a damaged or handwritten description can fail anywhere
        raise InputError(
            f"{cls.__name__} cannot be made from {_brief(arguments)}: {error}."
        ) from error


def _built(value: Any, made: Mapping[int, nn.Module] | None) -> Any:
    """An argument, with the modules described in it built."""
    if isinstance(value, Mapping) and "class_path" in value:
        return build(value, made)
    if isinstance(value, Mapping):
        built = {}
        for key, entry in value.items():
            built[key] = _built(entry, made)
        return built
    return [_built(entry, made) for entry in value] if isinstance(value, list) else value


def _called(cls: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    """An object of the class; ``*sizes`` and ``**options`` are given under these names."""
    parameters = _parameters(cls)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    of_other_kinds = [name for name, each in parameters.items() if each.kind not in by_name]
    if arguments.keys().isdisjoint(of_other_kinds):
        return cls(**arguments)
    known = {name: arguments[name] for name in parameters if name in arguments}
    others = {name: value for name, value in arguments.items() if name not in parameters}
    signature = inspect.Signature(list(parameters.values()))
    bound = inspect.BoundArguments(signature, known)
    return cls(*bound.args, **bound.kwargs, **others)


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """The places where two descriptions differ, each as ``"path: a, not b"``."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for key in sorted({*a, *b}):
            found += differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
        return found
    same = a == b or (a != a and b != b)  # NaN does not equal itself
    return [] if same else [f"{path}: {_brief(a)}, not {_brief(b)}"]


def _brief(value: Any) -> str:
    """A tokenizer is some hundred thousand characters long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
