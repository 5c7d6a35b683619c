"""Where the tasks of training come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import BatchSampler, EpisodeSampler, TaskSource
from quickstudy.episodes.source import is_of_batches
from quickstudy.strategies import Strategy

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer


def check_source(strategy: Strategy, source: TaskSource, to_train: bool = True) -> None:
    """Refuses (ValueError) tasks on which the strategy can be neither trained nor evaluated."""
    name = type(strategy).__name__
    if to_train and strategy.episodic == is_of_batches(source):
        wanted = "tasks" if strategy.episodic else "ordinary batches of all training classes"
        raise ValueError(
            f"{name} learns from {wanted}, which {_name(source)} does not provide. Train it on a "
            "ClassDataset."
        )
    task = source.episode(0, slice(1))
    if (strategy.episodic or not to_train) and not task.support.inputs.shape[1]:
        raise ValueError(f"The tasks of {_name(source)} have no support to learn from.")
    if task.query.targets.is_floating_point() and not strategy.regression:
        raise ValueError(
            f"The targets of {_name(source)} are numbers, but {name} learns classes. Use a "
            "strategy for regression, such as MAML or ConditionalNeuralProcess."
        )


def _name(source: TaskSource) -> str:
    return type(getattr(source, "given", source)).__name__


def task_source(
    strategy: Strategy, train: ClassDataset | TaskSource, settings: Trainer
) -> TaskSource | EpisodeSampler | BatchSampler:
    """Where the tasks (or ordinary batches) of training come from."""
    if not isinstance(train, ClassDataset):
        check_source(strategy, train)
        if train.tasks != settings.tasks:
            raise ValueError(
                f"The tasks come {train.tasks} an episode, and the trainer's `tasks` is "
                f"{settings.tasks}; the two must be the same."
            )
        return train
    if strategy.episodic:
        return EpisodeSampler(
            train, settings.ways, settings.shots, settings.queries, settings.tasks, settings.seed
        )
    return BatchSampler(train, settings.batch_size, settings.tasks, settings.seed)
