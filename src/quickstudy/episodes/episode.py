"""Examples and episodes: frozen tensors whose first axis is always the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.inputs import Inputs


@dataclass(frozen=True)
class Examples:
    """Inputs with their targets, for a batch of tasks.

    Args:
        inputs: ``[T, N, *shape]``: N inputs for each of T tasks.
        targets: ``[T, N]`` int64 (classification: labels 0..ways-1, which mean nothing outside
            their task) or ``[T, N, D]`` float (regression).
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.inputs.shape[:2] != self.targets.shape[:2]:
            raise ValueError(
                f"Examples need one target for each input: inputs are {list(self.inputs.shape)} "
                f"and targets {list(self.targets.shape)}, whose first two axes (task, example) "
                "should be equal. For a single task add a first axis of length 1."
            )

    @property
    def tasks(self) -> int:
        """The number of tasks T."""
        return self.inputs.shape[0]

    def to(self, device: torch.device | str) -> Examples:
        """These examples on ``device``."""
        return Examples(self.inputs.to(device), self.targets.to(device))

    def __getitem__(self, tasks: slice) -> Examples:
        return Examples(self.inputs[tasks], self.targets[tasks])


@dataclass(frozen=True)
class Episode:
    """A batch of tasks: examples to learn from, and examples to be judged on.

    Args:
        support: what a strategy adapts to, ``[T, ways * shots, *shape]``.
        query: what it is then asked, ``[T, ways * queries, *shape]``.
        ways: the number of classes in each task.
    """

    support: Examples
    query: Examples
    ways: int

    @property
    def tasks(self) -> int:
        """The number of tasks T."""
        return self.support.tasks

    def to(self, device: torch.device | str) -> Episode:
        """This episode on ``device``."""
        return Episode(self.support.to(device), self.query.to(device), self.ways)

    @classmethod
    def joined(cls, episodes: Sequence[Episode]) -> Episode:
        """The tasks of several episodes in one; all are of the same ways, shots and queries."""
        support, query = (
            Examples(
                torch.cat([examples.inputs for examples in parts]),
                torch.cat([examples.targets for examples in parts]),
            )
            for parts in ([e.support for e in episodes], [e.query for e in episodes])
        )
        return cls(support, query, episodes[0].ways)

    def __getitem__(self, tasks: slice) -> Episode:
        return Episode(self.support[tasks], self.query[tasks], self.ways)

    def in_turns(self, turns: int) -> Episode:
        """The same tasks so many times over, each time with others of their examples as support.

        The first T tasks are these. In every further turn the support of a class moves on by as
        many of its examples as it has, so that turns share none of it until each has been in the
        support.

        Args:
            turns: 1 or more.

        Returns:
            ``turns * T`` tasks, turn by turn.

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
                    raise ValueError(
                        "The examples of a task take turns at being its support only where each "
                        f"of its classes has as many; these have {counts[0].tolist()}."
                    )
        of_classes = labels.argsort(dim=1, stable=True).view(self.tasks, sets, -1)
        each = shots // sets
        places = [torch.arange(labels.shape[1], device=labels.device).expand_as(labels)]
        for turn in range(1, turns):
            moved = of_classes.roll(-turn * each, dims=2)
            parts = moved[..., :each], moved[..., each:]
            places.append(torch.cat([part.flatten(1) for part in parts], dim=1))
        task = torch.arange(self.tasks, device=labels.device).repeat(turns)[:, None]
        inputs, targets = (whole[task, torch.cat(places)] for whole in (inputs, targets))
        support, query = (
            Examples(inputs[:, part], targets[:, part])
            for part in (slice(shots), slice(shots, None))
        )
        return Episode(support, query, self.ways)


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
