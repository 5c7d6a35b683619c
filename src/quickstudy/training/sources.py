"""Where the tasks of training come from."""

from __future__ import annotations

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import BatchSampler, Episode, EpisodeSampler, Examples, TaskSource
from quickstudy.episodes.episode import unchecked_episode
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import check_source
from quickstudy.inputs import Augmentation
from quickstudy.strategies import Strategy
from quickstudy.training.settings import Settings


def task_source(
    strategy: Strategy, train: ClassDataset | TaskSource, settings: Settings
) -> TaskSource | EpisodeSampler | BatchSampler:
    """Where the tasks (or ordinary batches) of training come from."""
    if not isinstance(train, ClassDataset):
        check_source(strategy, train)
        if train.tasks != settings.tasks:
            raise InputError(
                f"Each episode has {train.tasks} tasks, but the trainer's `tasks` is "
                f"{settings.tasks}; the two must be equal."
            )
        return train
    if strategy.episodic:
        return EpisodeSampler(
            train,
            settings.ways,
            settings.shots,
            settings.queries,
            tasks=settings.tasks,
            seed=settings.seed,
        )
    return BatchSampler(train, settings.batch_size, settings.tasks, settings.seed)


def augmented(task: Episode, augmentation: Augmentation) -> Episode:
    """The task with random changes to its images, support and query alike."""
    if not augmentation.changes:
        return task
    support, query = (
        Examples(augmentation(e.inputs.flatten(0, 1)).view_as(e.inputs), e.targets)
        for e in (task.support, task.query)
    )
    return unchecked_episode(support, query, task.ways)
