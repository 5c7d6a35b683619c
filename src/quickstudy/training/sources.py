"""Where the tasks of training come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import BatchSampler, EpisodeSampler, TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import check_source
from quickstudy.strategies import Strategy

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer


def task_source(
    strategy: Strategy, train: ClassDataset | TaskSource, settings: Trainer
) -> TaskSource | EpisodeSampler | BatchSampler:
    """Where the tasks (or ordinary batches) of training come from."""
    if not isinstance(train, ClassDataset):
        check_source(strategy, train)
        if train.tasks != settings.tasks:
            raise InputError(
                f"The tasks come {train.tasks} an episode, and the trainer's `tasks` is "
                f"{settings.tasks}; the two must be the same."
            )
        return train
    if strategy.episodic:
        return EpisodeSampler(
            train, settings.ways, settings.shots, settings.queries, settings.tasks, settings.seed
        )
    return BatchSampler(train, settings.batch_size, settings.tasks, settings.seed)
