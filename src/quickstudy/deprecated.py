"""Former names of what was renamed: they warn, and work until version 1.0."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


FORMER_SETTINGS = {"turns": "support_rotations"}
"""Settings of training that had another name in earlier versions and in the files they wrote."""


FORMER_OPTIONS = {
    **FORMER_SETTINGS,
    "train_part": "train_split",
    "validation_part": "validation_split",
    "part": "test_split",
    "reject": "keep",
}
"""The same of options of commands and of the configurations that they wrote."""


def with_present_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that an earlier version wrote, under their present names."""
    return {FORMER_OPTIONS.get(name, name): value for name, value in settings.items()}


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Issues the DeprecationWarning for a former name.

    Args:
        old: the former name, in words: "the argument kind".
        new: the name that replaces it.
        stacklevel: as in ``warnings.warn``, seen from the caller.
    """
    warnings.warn(
        f"{old[:1].upper()}{old[1:]} is now called {new}; the former name works until version 1.0.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a function take arguments under their former names, ``old="new"``.

    >>> @renamed_arguments(kind="modality")
    ... def show(modality):
    ...     return modality
    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     show(kind="image")
    'image'
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def renaming(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = kwargs
            for old in names.keys() & given.keys():
                new = names[old]
                if new in given:
                    raise TypeError(
                        f"{function.__qualname__} was given both {new} and {old}, its former "
                        f"name. Give {new} alone."
                    )
                warn_renamed(f"the argument {old} of {function.__qualname__}", new)
                given[new] = given.pop(old)
            return function(*args, **kwargs)

        return renaming

    return decorate


def once_positional(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets keyword-only arguments be given by position, as they could be in earlier versions.

    Args:
        *names: the arguments, in the order that they had after those that are still positional.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        places = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)

        @functools.wraps(function)
        def naming(*args: P.args, **kwargs: P.kwargs) -> R:
            late = args[places : places + len(names)]
            if not late:
                return function(*args, **kwargs)
            warnings.warn(
                f"{function.__qualname__.removesuffix('.__init__')} takes "
                f"{', '.join(names[: len(late)])} by name only; by position until version 1.0.",
                DeprecationWarning,
                stacklevel=2,
            )
            given: dict[str, Any] = {**kwargs, **dict(zip(names, late, strict=False))}
            rest: Any = args[:places] + args[places + len(late) :]
            return function(*rest, **given)

        return naming

    return decorate


class RenamedAttribute:
    """The former name of a class attribute, property or method.

    In the body of the class: ``old = RenamedAttribute("new")``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __set_name__(self, owner: type, old: str) -> None:
        self.old = old

    def __get__(self, instance: object | None, owner: type) -> Any:
        warn_renamed(f"{owner.__name__}.{self.old}", self.name)
        return getattr(owner if instance is None else instance, self.name)
