"""Modules as plain data: a class and its arguments, enough to build the module again.

A description is ``{"class_path": "quickstudy.strategies.MAML", "init_args": {...}}``, the form that
configuration files use. Like scikit-learn's estimators, a module that wants to be described keeps
each constructor argument in an attribute of the same name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

Description = dict[str, Any]

_MORE_THAN_SAVED, _ALWAYS_ALLOWED = 10, 1000
"""Parameters that a module may have for each that was saved, and anyway."""

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
    path = description.get("class_path") if isinstance(description, Mapping) else None
    if not isinstance(path, str):
        raise ValueError(
            "A description of a module is needed, with a class_path; this is "
            f"{_brief(description)}."
        )
    module_name, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError, TypeError, OverflowError) as error:
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
    given = description.get("init_args") or {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ValueError(
            f"{cls.__name__} cannot be made from {_brief(given)}: arguments have names."
        )
    arguments = {
        key: build(value) if isinstance(value, Mapping) and "class_path" in value else value
        for key, value in given.items()
    }
    try:
        return cls(**arguments)
    except (ValueError, OSError, ImportError, MemoryError):
        raise  # in words of its own
    except Exception as error:  # what was written by hand or damaged may break it anywhere
        raise ValueError(
            f"{cls.__name__} cannot be made from {_brief(arguments)}: {error}."
        ) from error


def build_to_fit(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> nn.Module:
    """Makes a module for given weights, which are not yet put in.

    Their shapes are checked before the module takes memory: a description from elsewhere might ask
    for any amount of it.

    Raises:
        ValueError: as :func:`build`, or because the weights do not fit.
    """
    try:
        with _few_parameters(_MORE_THAN_SAVED * len(weights) + _ALWAYS_ALLOWED):
            shapes = None if _is_pretrained(description) else _shapes(description)
    except ValueError:
        shapes = None  # building says the same, or can what cannot be done without memory
    given = {name: weight.shape for name, weight in weights.items()}
    if shapes is not None:
        added = getattr(described_class(description), "added_buffers", ())
        given = {name: shapes[name] for name in added if name in shapes} | given
    if shapes is not None and shapes != given:
        different = sorted(
            name for name in {*shapes, *given} if shapes.get(name) != given.get(name)
        )
        raise ValueError(
            f"The weights do not fit {description['class_path']}: {different[0]} should be "
            f"{_size(shapes.get(different[0]))} and is {_size(given.get(different[0]))} "
            f"({len(different)} such)."
        )
    with _few_parameters(_MORE_THAN_SAVED * len(weights) + _ALWAYS_ALLOWED):
        return build(description)


def _shapes(description: Mapping[str, Any]) -> dict[str, torch.Size]:
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        module = build(description)
    return {name: weight.shape for name, weight in module.state_dict().items()}


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"{list(shape)}"


def _is_pretrained(description: Any) -> bool:
    """Whether a model is read from its folder, whose size is its own."""
    if isinstance(description, Mapping):
        name = str(description.get("class_path")).rpartition(".")[2]
        return name.startswith("Pretrained") or any(map(_is_pretrained, description.values()))
    return isinstance(description, list) and any(map(_is_pretrained, description))


@contextmanager
def _few_parameters(most: int) -> Iterator[None]:
    """Stops a module from being built that has more parameters than ``most`` (ValueError)."""
    count = 0

    def check(*_: object) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"A module with more than {most} parameters is described.")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


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
