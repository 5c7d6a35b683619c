"""Whose code may run: files name classes, and importing a class runs the code of its module.

A run, a checkpoint, a ``.qs`` file or a configuration can name the encoders and strategies of this
package. Any other class must be named by the user: on the command line, in the
environment variable ``QUICKSTUDY_TRUST``, or in Python by ``trust=[...]``. A file can also name a
strategy or encoder that the running program has already imported, because no further code runs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from quickstudy.errors import InputError
from quickstudy.saving.yaml_text import read_yaml

TRUST_VARIABLE = "QUICKSTUDY_TRUST"
"""The environment variable that lists import paths, such as ``my_package.MyStrategy``, or all of a
package, ``my_package.*``; with commas or spaces between."""

IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

MOST_NODES = 100_000
"""Of a description or configuration; more is no description but an attack on the memory."""

_OWN_CLASS = re.compile(r"quickstudy(\.(encoders|strategies)(\.[a-z]\w*)*)?\.[A-Z]\w*")
_OPTIMIZER = re.compile(r"torch\.optim\.[A-Z]\w*")
_PLAIN_CLASSES = ("torch.nn.modules.linear.Identity", "torch.nn.modules.flatten.Flatten")
_CLASS_OPTIONS = ("strategy", "encoder", "augmentation", "optimizer")


def is_trusted(class_path: str, trust: Collection[str] = ()) -> bool:
    """Whether a file may name this class.

    Args:
        class_path: where the class is imported from.
        trust: what the user trusts beside the environment variable's.
    """
    if is_own(class_path):
        return True
    listed = [*trust, *re.split(r"[\s,]+", os.environ.get(TRUST_VARIABLE, ""))]
    if any(_covers(entry, class_path) for entry in listed):
        return True
    return _is_imported_already(class_path)


def is_own(class_path: str) -> bool:
    """Whether it is a class of this package, or one of torch's optimizers or plain layers."""
    found = _OWN_CLASS.fullmatch(class_path) or _OPTIMIZER.fullmatch(class_path)
    return bool(found) or class_path in _PLAIN_CLASSES


def _covers(entry: str, class_path: str) -> bool:
    if entry.endswith(".*"):
        return len(entry) > 2 and class_path.startswith(entry[:-1])
    return entry == class_path


def _is_imported_already(class_path: str) -> bool:
    """Whether it is a strategy or encoder that the program itself has imported."""
    module, _, name = class_path.rpartition(".")
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return isinstance(found, type) and any(
        f"{base.__module__}.{base.__qualname__}" in _BASES for base in found.__mro__
    )


_BASES = {"quickstudy.encoders.encoder.Encoder", "quickstudy.strategies.strategy.Strategy"}


def check_trusted(description: Any, trust: Collection[str] = ()) -> None:
    """Refuses a description of classes that the user does not trust.

    Args:
        description: anything made of dictionaries, lists and plain values.
        trust: import paths that the user trusts.

    Raises:
        ValueError: it names another class, or is too large.
    """
    for keys, value in _entries(description, "The file"):
        if keys[-1:] == ("class_path",):
            _check_class(value, trust, "The file")


def check_config(what: str, content: Any) -> None:
    """Refuses a configuration that makes the parser import what the user does not trust.

    The parser imports not only each ``class_path`` but also any string given for a class. It reads
    files that are named there, and YAML inside such a string.

    Args:
        what: name of the configuration in messages.
        content: the parsed configuration.

    Raises:
        ValueError: naming the class; or it is too large.
    """
    for keys, value in _entries(content, what):
        if keys[-1:] == ("class_path",):
            _check_class(value, (), what, short=True)
        elif isinstance(value, str) and keys[0] in _CLASS_OPTIONS:
            if IMPORT_PATH.fullmatch(value):
                _check_class(value, (), what)
            elif value.endswith((".yaml", ".yml", ".json")):
                raise InputError(
                    f"{what} names the file {value!r} in the place of a class. Write what that "
                    "file says into this one."
                )
            else:
                _check_text(what, keys[0], value)


def _check_text(what: str, option: str, text: str) -> None:
    """Refuses a string that the parser would take for the description of a class."""
    try:
        inside = read_yaml(text, what)
    except ValueError:
        return  # the parser reads nothing else in it
    if isinstance(inside, Mapping | list) or (isinstance(inside, str) and inside != text):
        check_config(what, {option: inside})


def _entries(content: Any, what: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything in nested dictionaries and lists, with the keys that lead to it."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        keys, value = waiting.pop()
        if keys:
            yield keys, value
        # Only the first and the last key matter.
        if isinstance(value, Mapping):
            for key, entry in value.items():
                names = str(key).split(".")
                waiting.append((((*keys, *names)[0], names[-1]), entry))
        elif isinstance(value, list | tuple):
            waiting += [(keys, entry) for entry in value]
    raise InputError(f"{what} is too large: it holds more than {MOST_NODES} values.")


def _check_class(name: Any, trust: Collection[str], what: str, short: bool = False) -> None:
    if not isinstance(name, str):
        raise InputError(f"{what} gives {str(name)[:60]!r} as a class_path; it is a string.")
    if short and "." not in name:  # one of this package, or unknown
        return
    if not is_trusted(name, trust):
        raise InputError(
            f"{what} uses the class {name!r}, which is not quickstudy's own, and importing it "
            "runs its code. If you trust it and whoever wrote the file, allow it: in Python "
            f"load(path, trust=[{name!r}]), in commands --trust {name}, or for good in the "
            f"environment variable {TRUST_VARIABLE}."
        )


@contextmanager
def trusting(typed: Iterable[str]) -> Iterator[None]:
    """Trusts the import paths that somebody typed, here and in child processes.

    Modules in the current folder can be imported then; never in place of installed ones.

    Args:
        typed: what was typed for options that name classes: import paths of classes or of all of a
            package (``my_package.*``), lists of them, or descriptions of classes as YAML.
    """
    before = os.environ.get(TRUST_VARIABLE)
    listed = " ".join([*([before] if before else []), *import_paths(typed)])
    path = list(sys.path)
    if listed:
        os.environ[TRUST_VARIABLE] = listed
        sys.path.append("")
    try:
        yield
    finally:
        sys.path[:] = path
        if before is None:
            os.environ.pop(TRUST_VARIABLE, None)
        else:
            os.environ[TRUST_VARIABLE] = before


def import_paths(typed: Iterable[str]) -> list[str]:
    """The import paths, of classes or of all of a package (``my_package.*``), in what was typed."""
    found: list[str] = []
    for text in typed:
        try:
            content = read_yaml(text, "What was typed")
        except ValueError:
            content = text
        values = [value for _, value in _entries({"": content}, "What was typed")]
        parts = [
            part.strip() for each in values if isinstance(each, str) for part in each.split(",")
        ]
        found += [each for each in parts if IMPORT_PATH.fullmatch(each.replace(".*", ".x"))]
    return found
