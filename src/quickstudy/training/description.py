"""Modules as plain data: a class and its arguments, enough to build the module again.

A description is ``{"class_path": "quickstudy.strategies.MAML", "init_args": {...}}``, the form that
configuration files use. Like scikit-learn's estimators, a module that wants to be described keeps
each constructor argument in an attribute of the same name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

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
        ValueError: when an argument is not kept in an attribute of its name.
    """
    arguments = {}
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(module, name):
            raise ValueError(
                f"{type(module).__name__} cannot be described, so a run with it could not be "
                f"loaded again: keep its argument `{name}` in an attribute of that name."
            )
        arguments[name] = _plain(getattr(module, name), f"{type(module).__name__}.{name}")
    return {"class_path": class_path(type(module)), "init_args": arguments}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, nn.Module):
        return describe(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, where) for key, entry in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}, which cannot be written to a file.")


def described_class(description: Mapping[str, Any]) -> type[nn.Module]:
    """The class that ``description`` names.

    Raises:
        ValueError: when it is not a description, or names no importable module class.
    """
    if "class_path" not in description:
        raise ValueError(f"A description needs a class_path; this has {sorted(description)}.")
    module_name, _, name = description["class_path"].rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The class {description['class_path']!r} cannot be imported ({error}). Is the package "
            "that defines it installed?"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"{description['class_path']!r} is not a torch module.")
    return cls


def build(description: Mapping[str, Any]) -> nn.Module:
    """Makes the module that ``description`` describes.

    Raises:
        ValueError: when it is not a description, or names no importable module class.
    """
    cls = described_class(description)
    arguments = {
        key: build(value) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in (description.get("init_args") or {}).items()
    }
    try:
        return cls(**arguments)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{cls.__name__} cannot be made from {arguments}: {error}.") from error


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """The places where two descriptions differ, each as ``"path: a, not b"``."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for key in sorted({*a, *b}):
            found += differences(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if a == b else [f"{path}: {_brief(a)}, not {_brief(b)}"]


def _brief(value: Any) -> str:
    """A tokenizer is some hundred thousand characters long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
