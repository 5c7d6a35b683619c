"""Checks of the arguments of ``fit`` and ``evaluate``: strategies, data and sources of tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import Episode, Mixture, Sinusoids, TaskSource, as_source, is_source
from quickstudy.episodes.source import is_of_batches
from quickstudy.errors import InputError
from quickstudy.strategies import Strategy

_A_PART = "a part of a loaded data set, such as quickstudy.load_dataset({}).split()['train']"


def checked_strategy(given: Any) -> Strategy:
    """``given``, if it is a strategy.

    Raises:
        ValueError: when it is something else, such as a class or a bare encoder.
    """
    if isinstance(given, Strategy):
        return given
    if isinstance(given, type) and issubclass(given, Strategy):
        raise InputError(
            f"The strategy is the class {given.__name__}; give an instance of it, such as "
            f"{given.__name__}(encoder)."
        )
    if isinstance(given, ClassDataset) or is_source(given):
        raise InputError(
            f"The first argument is a {type(given).__name__}, which holds data; the strategy comes "
            "first, then the data."
        )
    if isinstance(getattr(given, "strategy", None), Strategy):  # a run
        raise InputError(
            f"The strategy is a {type(given).__name__}; to train its strategy further, give its "
            "attribute `strategy`."
        )
    if isinstance(given, nn.Module) or (isinstance(given, type) and issubclass(given, nn.Module)):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise InputError(
            f"The strategy is a {name}, which is a network, not a strategy. Use it as the encoder "
            "of a strategy: quickstudy.strategies.PrototypicalNetwork(encoder)."
        )
    shown = repr(given)[:60] if isinstance(given, str | os.PathLike) else type(given).__name__
    raise InputError(
        f"The strategy is {shown}; give an object, such as "
        "quickstudy.strategies.PrototypicalNetwork(encoder)."
    )


def classes_or_tasks(given: Any, use: str) -> ClassDataset | TaskSource:
    """``given``, if it is a data set or a source of tasks, whose episodes are then checked.

    Args:
        given: the argument.
        use: its purpose, such as "training".

    Raises:
        ValueError: when it is something else; the message states what to give.
    """
    if isinstance(given, ClassDataset | Sinusoids | Mixture):
        return given
    if isinstance(given, type) or is_source(given):
        return as_source(given)
    raise InputError(f"{_what_it_is(given, use)}")


def is_regression(source: TaskSource) -> bool:
    """Whether the targets of a source's tasks are numbers."""
    return source.episode(0, slice(1)).query.targets.is_floating_point()


def _what_it_is(given: Any, use: str) -> str:
    classes = "a ClassDataset or a source of tasks"
    if given is None:
        return f"No data for {use} was given; give {classes}: {_A_PART.format('name')}."
    if isinstance(given, str | os.PathLike):
        name = repr(os.fspath(given))
        return (
            f"The data for {use} is {name}, a name; load it first and give {_A_PART.format(name)}."
        )
    if isinstance(given, Mapping):
        parts = ", ".join(map(repr, list(given)[:5]))
        return (
            f"The data for {use} is a {type(given).__name__} of {parts}; give one part of it, such "
            "as parts['train']. Turn data that is not loaded yet into a ClassDataset with "
            "ClassDataset.from_arrays."
        )
    if isinstance(given, nn.Module):
        return (
            f"The data for {use} is a {type(given).__name__}, which is a network. The strategy "
            "comes first, then the data."
        )
    several = isinstance(given, list | tuple) or hasattr(given, "__next__")
    if several and (not hasattr(given, "__len__") or (given and isinstance(given[0], Episode))):
        return (
            f"The data for {use} is a {type(given).__name__}, perhaps of episodes; each episode "
            "must be available by its number. Give an object with episode(number), such as "
            "types.SimpleNamespace(episode=lambda n: episodes[n % len(episodes)])."
        )
    if type(given).__name__ == "DataLoader":
        return (
            f"The data for {use} is a DataLoader, which gives batches; make a data set of its "
            "examples: ClassDataset.from_arrays(loader.dataset, labels=None, inputs=...)."
        )
    return (
        f"The data for {use} is a {type(given).__name__}; give {classes}. To turn arrays, lists "
        "and data sets of other libraries into one, use ClassDataset.from_arrays(examples, labels, "
        "inputs)."
    )


def check_source(strategy: Strategy, source: TaskSource, to_train: bool = True) -> None:
    """Refuses (ValueError) tasks on which the strategy can be neither trained nor evaluated."""
    name = type(strategy).__name__
    if to_train and strategy.episodic == is_of_batches(source):
        wanted = "tasks" if strategy.episodic else "ordinary batches of all training classes"
        raise InputError(
            f"{name} learns from {wanted}, which {source_name(source)} does not provide. Train it "
            "on a ClassDataset."
        )
    task = source.episode(0, slice(1))
    if (strategy.episodic or not to_train) and not task.support.inputs.shape[1]:
        raise InputError(f"The tasks of {source_name(source)} have no support to learn from.")
    if task.query.targets.is_floating_point() and not strategy.regression:
        raise InputError(
            f"The targets of {source_name(source)} are numbers, but {name} learns classes. Use a "
            "strategy for regression, such as MAML or ConditionalNeuralProcess."
        )


def source_name(source: TaskSource) -> str:
    """What messages call a source: the class of the object that was given."""
    return type(getattr(source, "given", source)).__name__
