"""Custom sources of tasks: any object with a method ``episode(number)``."""

from __future__ import annotations

import inspect
from typing import Any

from quickstudy.counts import as_whole, whole_range
from quickstudy.episodes.batches import BatchSampler
from quickstudy.episodes.episode import Episode, TaskSource
from quickstudy.errors import InputError
from quickstudy.inputs import FeatureInputs, Inputs

_HOW = (
    "A source of tasks is an object whose method episode(number) returns the Episode of that "
    "number, the same one every time it is called"
)


class CheckedSource:
    """A custom source of tasks, with missing attributes inferred.

    Attributes that it does not state (``tasks``, ``ways``, ``inputs``) are those of its first
    episode. If its method takes only the number, a part of an episode is cut out of the whole.
    Every episode is checked.

    Args:
        given: an object with a method ``episode(number)`` or ``episode(number, tasks)``.

    Attributes:
        inputs: how raw things become its inputs.
        ways: classes per task (the maximum, if they vary), or the length of a target.
        tasks: tasks in an episode.
        regression: whether targets are numbers.

    Raises:
        ValueError: when ``given`` is not such an object, or its episodes differ from what it
            states.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self.name = type(given).__name__
        self._slices = _takes_tasks(given, self.name)
        first = self._whole(0)
        stated = getattr(given, "tasks", None)
        self.tasks = first.tasks
        if stated is not None and as_whole(stated) != first.tasks:
            raise InputError(self._of_other_tasks(0, first.tasks, stated))
        ways = getattr(given, "ways", None)
        self.ways = first.ways if ways is None else whole_range(ways, f"{self.name}.ways", 1)[1]
        self._check_ways(0, first)
        self.regression = first.query.targets.is_floating_point()
        self.inputs = _inputs(given, first, self.name)

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``, or only those of its tasks that ``tasks`` picks."""
        if tasks is None or not self._slices:
            whole = self._whole(index)
            if whole.tasks != self.tasks:
                raise InputError(self._of_other_tasks(index, whole.tasks, self.tasks))
            found = whole if tasks is None else whole[tasks]
        else:
            found = self._checked(index, self.given.episode(index, tasks=tasks))
            wanted = len(range(self.tasks)[tasks])
            if found.tasks != wanted:
                raise InputError(
                    f"{self.name}.episode({index}, tasks={tasks}) returned {found.tasks} tasks, "
                    f"but that slice of {self.tasks} tasks picks {wanted}. Leave the argument "
                    "`tasks` out of the method; the slice is then taken for you."
                )
        self._check_ways(index, found)
        return found

    def _whole(self, index: int) -> Episode:
        return self._checked(index, self.given.episode(index))

    def _checked(self, index: int, found: Any) -> Episode:
        if not isinstance(found, Episode):
            raise InputError(
                f"{self.name}.episode({index}) returned a {type(found).__name__}; it must return "
                "an Episode(support, query, ways) of Examples(inputs, targets)."
            )
        if not found.tasks or not found.query.inputs.shape[1]:
            raise InputError(
                f"{self.name}.episode({index}) returned no tasks, or tasks without queries."
            )
        return found

    def _check_ways(self, index: int, found: Episode) -> None:
        if found.ways > self.ways:
            raise InputError(
                f"{self.name}.episode({index}) has {found.ways} ways, but {self.name} states "
                f"{self.ways}. If they vary, set its attribute `ways` to the largest number."
            )

    def _of_other_tasks(self, index: int, found: int, stated: Any) -> str:
        return (
            f"{self.name}.episode({index}) has {found} tasks, but {self.name} states {stated}. "
            "Every episode must have as many tasks as the attribute `tasks`, or else the first "
            "episode, states."
        )


def is_source(given: Any) -> bool:
    """Whether ``given`` is an object, not a class, with a method ``episode``."""
    return callable(getattr(given, "episode", None)) and not isinstance(given, type)


def as_source(given: Any) -> TaskSource:
    """``given`` as a source of tasks whose episodes are checked.

    Raises:
        ValueError: when it is not a source of tasks.
    """
    if isinstance(given, type) and hasattr(given, "episode"):
        raise InputError(
            f"{given.__name__} is a class of sources of tasks; give an instance of it, such as "
            f"{given.__name__}()."
        )
    if not is_source(given):
        raise InputError(f"A {type(given).__name__} is not a source of tasks. {_HOW}.")
    return given if isinstance(given, CheckedSource) else CheckedSource(given)


def _takes_tasks(given: Any, name: str) -> bool:
    """Whether its method takes a slice of tasks, by an argument ``tasks``."""
    try:
        parameters = inspect.signature(given.episode).parameters
    except (TypeError, ValueError):  # builtins have no signature
        return False
    required = [
        each.name
        for each in list(parameters.values())[1:]
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if required and required != ["tasks"]:
        raise InputError(
            f"{name}.episode needs more than the number of an episode ({', '.join(required)}); "
            "give these arguments defaults."
        )
    if not parameters:
        raise InputError(f"{name}.episode takes no number. {_HOW}.")
    found = parameters.get("tasks")
    takes = found is not None and found.kind is not found.POSITIONAL_ONLY
    if required and not takes:
        raise InputError(f"{name}.episode must take `tasks` as a keyword argument, or not at all.")
    return takes and next(iter(parameters)) != "tasks"


def _inputs(given: Any, first: Episode, name: str) -> Inputs:
    """How the inputs of a source were made: as it states, otherwise vectors used unchanged."""
    holder = given if hasattr(given, "inputs") else getattr(given, "dataset", None)
    inputs = getattr(holder, "inputs", None)
    if inputs is not None and not isinstance(inputs, Inputs):
        raise InputError(
            f"{name}.inputs is a {type(inputs).__name__}; give an object that describes how inputs "
            "are made, such as quickstudy.inputs.FeatureInputs(16) or "
            "quickstudy.inputs.ImageInputs(84)."
        )
    if inputs is not None:
        return inputs
    shape = first.query.inputs.shape[2:]
    if len(shape) != 1:
        raise InputError(
            f"{name} returns inputs of shape {list(shape)} but does not state how they are made, "
            "which is saved with the trained strategy. Give it an attribute `inputs`, such as "
            "quickstudy.inputs.ImageInputs(size, channels) for images."
        )
    return FeatureInputs(shape[0])


def is_of_batches(source: TaskSource | BatchSampler) -> bool:
    """Whether a source returns ordinary batches, which are tasks without support."""
    return isinstance(getattr(source, "given", source), BatchSampler)
