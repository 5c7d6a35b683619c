"""Checks before a run starts or resumes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluation.arguments import is_regression, source_name
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.saving.description import differences
from quickstudy.strategies import EmbeddingStrategy, Strategy


def check_validation(
    train: ClassDataset | TaskSource, validation: ClassDataset | TaskSource
) -> None:
    """Refuses validation on what is trained on, and on inputs or targets of another kind.

    Rotations of one class count as it.
    """
    other = differences(train.inputs.to_dict(), validation.inputs.to_dict())
    if not isinstance(train, ClassDataset) and is_regression(train) != (
        not isinstance(validation, ClassDataset) and is_regression(validation)
    ):
        kind = "which are not drawn from classes, so they cannot be validated on classes"
        if not is_regression(train):
            kind = "which have classes, so they cannot be validated on numbers"
        raise InputError(
            f"The training tasks are {source_name(train)}, {kind}. Validate on another source of "
            "such tasks, or leave the validation data out."
        )
    if other:
        raise InputError(
            "The validation data were read with other inputs than the training data; expected "
            f"{'; '.join(other)}. Load both with the same inputs: load_dataset(..., "
            "inputs=train.inputs)."
        )
    if not (isinstance(train, ClassDataset) or isinstance(validation, ClassDataset)):
        first, same = (source.episode(0, slice(1)) for source in (train, validation))
        a, b = first.query.inputs, same.query.inputs
        if a.shape == b.shape and torch.equal(a, b.to(a.device)):
            raise InputError(
                f"The validation tasks are the training tasks: episode 0 of {source_name(train)} "
                "is the same in both. Use another seed for validation."
            )
    if not (isinstance(train, ClassDataset) and isinstance(validation, ClassDataset)):
        return
    if train.examples is not validation.examples:
        return  # other data: names may be the same by chance
    shared = set(train.groups) & set(validation.groups)
    if shared:
        raise InputError(
            f"{len(shared)} classes are for training and for validation, {min(shared)!r} among "
            "them. Validate on others, or not at all (--validation-split null; in Python no "
            "validation data)."
        )


def check_augmentation(augmentation: Augmentation, inputs: Inputs) -> None:
    """Refuses to rotate, move or mirror what is no image."""
    if augmentation.changes and inputs.modality != "image":
        raise InputError(
            "Augmentation changes images, and the training data are of modality "
            f"{inputs.modality!r}. Leave the settings of `augmentation` as they are by default."
        )


def check_rotations(strategy: Strategy, rotations: int) -> None:
    """Refuses support rotations without tasks, or without vectors to share (ValueError)."""
    if rotations == 1:
        return
    if not (isinstance(strategy, EmbeddingStrategy) and strategy.episodic):
        why = (
            "encodes its inputs anew for every support"
            if strategy.episodic
            else "does not learn from tasks"
        )
        raise InputError(
            f"support_rotations is {rotations}, but {type(strategy).__name__} {why}, so the "
            "examples of a task cannot rotate through its support. Use support_rotations=1."
        )
    if "features" not in inspect.signature(strategy.loss).parameters:
        raise InputError(
            f"support_rotations is {rotations}, but the loss of {type(strategy).__name__} takes no "
            "features, so they would be computed anew for every rotation. Let it take them, "
            "loss(episode, features=None), and pass them on to the forward pass."
        )


def check_same_parameters(strategy: Strategy, learned: Sequence[str]) -> None:
    """Refuses a strategy whose first pass adds, removes, freezes or frees parameters.

    Args:
        strategy: after a first pass.
        learned: the names of the parameters that the optimiser learns.
    """
    now = {name for name, each in strategy.named_parameters() if each.requires_grad}
    if not (other := now ^ set(learned)):
        return
    name = min(other)
    what = "adds" if name in now else "removes or freezes"
    encoder = getattr(strategy, "encoder", strategy)
    raise InputError(
        f"The first forward pass of {type(encoder).__name__} {what} the parameter {name!r} "
        f"({len(other)} such), after it was decided what is learned. Make all parameters in the "
        "constructor, or pass one batch through the network before."
    )
