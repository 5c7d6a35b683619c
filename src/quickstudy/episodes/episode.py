"""Examples and episodes: frozen tensors whose first axis is always the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.counts import whole_number
from quickstudy.deprecated import RenamedAttribute
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs

WHOLE = (
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.bool),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)
"""Types allowed for class targets."""


@dataclass(frozen=True)
class Examples:
    """Inputs with their targets, for a batch of tasks.

    Shapes and types are checked here. Arrays become tensors, and class targets of other widths
    become int64.

    Args:
        inputs: ``[T, N, *shape]``: N inputs for each of T tasks.
        targets: ``[T, N]`` int64 (classification: labels 0..ways-1, which have no meaning outside
            their task) or ``[T, N, D]`` float (regression).

    Raises:
        ValueError: when they have other shapes or types.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        inputs, targets = self.inputs, self.targets
        if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
            inputs, targets = _as_tensor(inputs, "inputs"), _as_tensor(targets, "targets")
            object.__setattr__(self, "inputs", inputs)
            object.__setattr__(self, "targets", targets)
        if inputs.ndim < 2 or inputs.shape[:2] != targets.shape[:2]:
            raise InputError(
                f"Examples need one target for each input: inputs are {list(inputs.shape)} and "
                f"targets {list(targets.shape)}, but their first two axes (task, example) must be "
                "equal. For a single task, add a first axis of length 1."
            )
        if targets.dtype is torch.int64:
            right = targets.ndim == 2
        elif targets.dtype in WHOLE:
            right = targets.ndim == 2
            object.__setattr__(self, "targets", targets.long())
        else:
            right = targets.ndim == 3 and targets.is_floating_point()
        if not right:
            _refuse_targets(targets)
        if inputs.device != targets.device:
            raise InputError(
                f"The inputs of the examples are on {inputs.device} and their targets on "
                f"{targets.device}; move both to one device."
            )

    @property
    def tasks(self) -> int:
        """The number of tasks T."""
        return self.inputs.shape[0]

    def to(self, device: torch.device | str) -> Examples:
        """These examples on ``device``."""
        return unchecked_examples(self.inputs.to(device), self.targets.to(device))

    def __getitem__(self, tasks: slice) -> Examples:
        return unchecked_examples(self.inputs[tasks], self.targets[tasks])


@dataclass(frozen=True)
class Episode:
    """A batch of tasks: examples to learn from, and examples to be evaluated on.

    Checks that support and query fit together and that class targets are in 0..ways-1; this is not
    checked again when tasks are sliced or moved.

    Args:
        support: the examples that a strategy adapts to, ``[T, ways * shots, *shape]``.
        query: the examples that it then predicts, ``[T, ways * queries, *shape]``.
        ways: the number of classes in each task; in regression D, the length of a target.

    Raises:
        ValueError: when they do not fit together.

    Example:
        >>> import torch
        >>> from quickstudy.episodes import Episode, Examples
        >>> labels = torch.tensor([[0, 1]])
        >>> support = Examples(torch.zeros(1, 2, 16), labels)  # 1 task, 2 examples
        >>> query = Examples(torch.zeros(1, 4, 16), torch.cat([labels, labels], dim=1))
        >>> episode = Episode(support, query, ways=2)
        >>> episode.tasks, episode.query.inputs.shape
        (1, torch.Size([1, 4, 16]))
    """

    support: Examples
    query: Examples
    ways: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "ways", whole_number(self.ways, "The number of ways", 1))
        support, query = self.support, self.query
        for part, given in (("support", support), ("query", query)):
            if not isinstance(given, Examples):
                raise InputError(
                    f"The {part} is a {type(given).__name__}; an episode needs "
                    "Examples(inputs, targets)."
                )
        if support.inputs.shape[0] != query.inputs.shape[0]:
            raise InputError(
                f"The support has {support.tasks} tasks and the query {query.tasks}; their first "
                "axes (task) must have the same length."
            )
        if support.inputs.shape[2:] != query.inputs.shape[2:]:
            raise InputError(
                f"Inputs of the support have the shape {list(support.inputs.shape[2:])} and those "
                f"of the query {list(query.inputs.shape[2:])}; both must have the same shape."
            )
        if support.targets.shape[2:] != query.targets.shape[2:]:
            raise InputError(
                f"The targets of the support are {list(support.targets.shape)} and those of the "
                f"query {list(query.targets.shape)}; both must be classes [T, N] or both numbers "
                "[T, N, D]."
            )
        if support.targets.device.type != "meta":
            self._check_targets()

    def _check_targets(self) -> None:
        for part, examples in (("support", self.support), ("query", self.query)):
            targets = examples.targets
            if targets.is_floating_point():
                if targets.shape[2] != self.ways:
                    raise InputError(
                        f"The targets of the {part} are {targets.shape[2]} numbers long, but ways "
                        f"is {self.ways}; in regression, ways is the length of a target."
                    )
            elif targets.numel():
                low, high = (int(end) for end in torch.aminmax(targets))
                if low < 0 or high >= self.ways:
                    raise InputError(
                        f"The targets of the {part} range from {low} to {high}; in a task of "
                        f"{self.ways} ways, classes are numbered from 0 to {self.ways - 1}."
                    )

    @property
    def tasks(self) -> int:
        """The number of tasks T."""
        return self.support.tasks

    def to(self, device: torch.device | str) -> Episode:
        """This episode on ``device``."""
        return unchecked_episode(self.support.to(device), self.query.to(device), self.ways)

    @classmethod
    def joined(cls, episodes: Sequence[Episode]) -> Episode:
        """The tasks of several episodes in one; all are of the same ways, shots and queries."""
        support, query = (
            unchecked_examples(
                torch.cat([examples.inputs for examples in parts]),
                torch.cat([examples.targets for examples in parts]),
            )
            for parts in ([e.support for e in episodes], [e.query for e in episodes])
        )
        return unchecked_episode(support, query, episodes[0].ways)

    def __getitem__(self, tasks: slice) -> Episode:
        return unchecked_episode(self.support[tasks], self.query[tasks], self.ways)

    def rotated(self, rotations: int) -> Episode:
        """The same tasks repeated, each time with other examples of theirs as the support.

        The first T tasks are these. In every further rotation the support of each class moves on
        by its own length, so that no example is in the support twice before all have been.

        Args:
            rotations: how many times the tasks are repeated, at least 1.

        Returns:
            ``rotations * T`` tasks, rotation by rotation.

        Raises:
            ValueError: if the classes of a task have different numbers of examples.
        """
        inputs, targets = (
            torch.cat([getattr(self.support, part), getattr(self.query, part)], dim=1)
            for part in ("inputs", "targets")
        )
        sets, shots = 1, self.support.targets.shape[1]
        labels = torch.zeros(targets.shape[:2], dtype=torch.int64, device=targets.device)
        if not targets.is_floating_point():  # of numbers, all examples are one set
            sets, labels = self.ways, targets
            for part in (self.support.targets, self.query.targets):
                counts = F.one_hot(part, sets).sum(1)
                if (counts != counts[:, :1]).any():
                    raise InputError(
                        "The examples of a task can rotate through its support only if all of its "
                        f"classes have equally many; these have {counts[0].tolist()}."
                    )
        of_classes = labels.argsort(dim=1, stable=True).view(self.tasks, sets, -1)
        each = shots // sets
        places = [torch.arange(labels.shape[1], device=labels.device).expand_as(labels)]
        for rotation in range(1, rotations):
            moved = of_classes.roll(-rotation * each, dims=2)
            parts = moved[..., :each], moved[..., each:]
            places.append(torch.cat([part.flatten(1) for part in parts], dim=1))
        task = torch.arange(self.tasks, device=labels.device).repeat(rotations)[:, None]
        inputs, targets = (whole[task, torch.cat(places)] for whole in (inputs, targets))
        support, query = (
            unchecked_examples(inputs[:, part], targets[:, part])
            for part in (slice(shots), slice(shots, None))
        )
        return unchecked_episode(support, query, self.ways)

    in_turns = RenamedAttribute("rotated")


def unchecked_examples(inputs: Tensor, targets: Tensor) -> Examples:
    """Examples made of tensors that were checked before, on another device or in another order."""
    examples = object.__new__(Examples)
    object.__setattr__(examples, "inputs", inputs)
    object.__setattr__(examples, "targets", targets)
    return examples


def unchecked_episode(support: Examples, query: Examples, ways: int) -> Episode:
    """An episode whose parts are known to fit together; its tensors are not read.

    Reading targets on a GPU would wait for it.
    """
    episode = object.__new__(Episode)
    object.__setattr__(episode, "support", support)
    object.__setattr__(episode, "query", query)
    object.__setattr__(episode, "ways", ways)
    return episode


def _as_tensor(given: Any, called: str) -> Tensor:
    if isinstance(given, Tensor):
        return given
    try:
        return torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The {called} of the examples are a {type(given).__name__}, which cannot be turned "
            "into a tensor of numbers; give a tensor."
        ) from error


def _refuse_targets(targets: Tensor) -> None:
    """Raises a ValueError that explains why targets are neither classes nor numbers."""
    found = f"The targets are {targets.dtype} of the shape {list(targets.shape)}"
    if targets.is_floating_point() and targets.ndim == 2:
        what_to_do = (
            "For regression they have a third axis, [T, N, D]: use targets[..., None]. Class "
            "numbers are int64 [T, N]: use targets.long()."
        )
    elif targets.dtype in WHOLE and targets.ndim == 3:
        what_to_do = (
            "Class numbers are int64 [T, N], without a third axis: use targets[..., 0], or "
            "argmax(-1) if the targets are one-hot. For regression they are floats: use "
            "targets.float()."
        )
    else:
        what_to_do = "They must be int64 [T, N] (classes) or floats [T, N, D] (numbers)."
    raise InputError(f"{found}. {what_to_do}")


class TaskSource(Protocol):
    """Where tasks come from that are not drawn from classes; ``Sinusoids`` is one.

    Attributes:
        inputs: how raw things become its inputs.
        ways: classes in a task, or the length of a target in regression.
        tasks: tasks in an episode.
    """

    inputs: Inputs
    ways: int
    tasks: int

    def episode(self, index: int, tasks: slice | None = None) -> Episode:
        """Episode ``index``, a function of it and a seed, or those tasks that ``tasks`` picks."""
        ...
