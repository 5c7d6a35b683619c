"""What must hold before a run begins or goes on."""

from __future__ import annotations

import inspect
from pathlib import Path

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import TaskSource
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.strategies import EmbeddingStrategy, Strategy
from quickstudy.training.checkpoint import Checkpoint
from quickstudy.training.description import differences

MAY_CHANGE_ON_RESUME = {
    "steps", "max_minutes", "patience", "accelerator", "devices", "nodes",
    "tasks_at_once", "show_progress",
}  # fmt: skip


def check_validation(train: ClassDataset | TaskSource, validation: ClassDataset) -> None:
    """Refuses validation on classes that are trained on; rotations of one class count as it."""
    if not isinstance(train, ClassDataset):
        raise ValueError(
            f"The training tasks are {type(train).__name__}, not drawn from classes; there is no "
            "validation on classes for them. Leave the validation data out."
        )
    if train.examples is not validation.examples:
        return  # other data: names may be the same by chance
    shared = set(train.groups) & set(validation.groups)
    if shared:
        raise ValueError(
            f"{len(shared)} classes are for training and for validation, {min(shared)!r} among "
            "them. Validate on others, or not at all (--validation_part null; in Python no "
            "validation data)."
        )


def check_augmentation(augmentation: Augmentation, inputs: Inputs) -> None:
    """Refuses to rotate, move or mirror what is no image."""
    if augmentation.changes and inputs.kind != "image":
        raise ValueError(
            f"Augmentation changes images, and the training data are of kind {inputs.kind!r}. "
            "Leave the settings of `augmentation` as they are by default."
        )


def check_turns(strategy: Strategy, turns: int) -> None:
    """Refuses turns where there are no tasks, or no vectors that they could share."""
    if turns == 1:
        return
    if not (isinstance(strategy, EmbeddingStrategy) and strategy.episodic):
        why = "encodes anew for every support" if strategy.episodic else "learns from no tasks"
        raise ValueError(
            f"turns is {turns}, and {type(strategy).__name__} {why}, so that the examples of a "
            "task cannot take turns at being its support. Use turns=1."
        )
    if "features" not in inspect.signature(strategy.loss).parameters:
        raise ValueError(
            f"turns is {turns}, and {type(strategy).__name__}'s loss takes no features, so that "
            "they would be computed anew in every turn. Let it take them, "
            "loss(episode, features=None), and pass them on to the forward pass."
        )


def check_same_run(saved: Checkpoint, now: Checkpoint, path: Path) -> None:
    """Refuses to go on with the run in ``path`` with another strategy, other settings or data."""
    other = differences(saved.strategy, now.strategy)
    if other:
        raise ValueError(
            f"{path} holds a run of another strategy. There and here differ: {'; '.join(other)}."
        )
    changed = differences(
        {k: v for k, v in saved.settings.items() if k not in MAY_CHANGE_ON_RESUME},
        {k: v for k, v in now.settings.items() if k not in MAY_CHANGE_ON_RESUME},
    )
    changed += differences(saved.inputs, now.inputs, "inputs")
    if changed:
        raise ValueError(
            f"The run in {path} was started with other settings: {'; '.join(changed)}. A resumed "
            f"run may only change {', '.join(sorted(MAY_CHANGE_ON_RESUME))}."
        )
    for part in ("train", "validation"):
        there, here = saved.classes.get(part, []), now.classes.get(part, [])
        if there != here:
            first = f", such as {here[0]!r}" if here else ""
            raise ValueError(
                f"The run in {path} was started with other {part} classes: {len(there)} there"
                f"{f', such as {there[0]!r}' if there else ''}, and {len(here)} here{first}. Use "
                "the data and split that it was started with, or another folder."
            )
