"""What must hold before a run begins or goes on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import TaskSource
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.strategies import EmbeddingStrategy, Strategy
from quickstudy.training.checkpoint import Checkpoint
from quickstudy.training.description import differences
from quickstudy.training.doors import is_regression
from quickstudy.training.protocol import USUAL_QUERIES

MAY_CHANGE_ON_RESUME = {
    "steps", "max_minutes", "patience", "accelerator", "devices", "nodes",
    "tasks_at_once", "show_progress",
}  # fmt: skip


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
        raise ValueError(
            f"The training tasks are {_source_name(train)}, {kind}. Validate on another source of "
            "such tasks, or leave the validation data out."
        )
    if other:
        raise ValueError(
            "The validation data were read with other inputs than the training data; expected "
            f"{'; '.join(other)}. Load both with the same inputs: load_dataset(..., "
            "inputs=train.inputs)."
        )
    if not (isinstance(train, ClassDataset) or isinstance(validation, ClassDataset)):
        first, same = (source.episode(0, slice(1)) for source in (train, validation))
        a, b = first.query.inputs, same.query.inputs
        if a.shape == b.shape and torch.equal(a, b.to(a.device)):
            raise ValueError(
                f"The validation tasks are the training tasks: episode 0 of {_source_name(train)} "
                "is the same in both. Use another seed for validation."
            )
    if not (isinstance(train, ClassDataset) and isinstance(validation, ClassDataset)):
        return
    if train.examples is not validation.examples:
        return  # other data: names may be the same by chance
    shared = set(train.groups) & set(validation.groups)
    if shared:
        raise ValueError(
            f"{len(shared)} classes are for training and for validation, {min(shared)!r} among "
            "them. Validate on others, or not at all (--validation_part null; in Python no "
            "validation data)."
        )


def _source_name(source: TaskSource) -> str:
    return type(getattr(source, "given", source)).__name__


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
    raise ValueError(
        f"The first forward pass of {type(encoder).__name__} {what} the parameter {name!r} "
        f"({len(other)} such), after it was decided what is learned. Make all parameters in the "
        "constructor, or pass one batch through the network before."
    )


def check_same_run(saved: Checkpoint, now: Checkpoint, path: Path) -> None:
    """Refuses to go on with the run in ``path`` with another strategy, other settings or data."""
    other = differences(saved.strategy, now.strategy)
    if other:
        raise ValueError(
            f"{path} holds a run of another strategy. There and here differ: {'; '.join(other)}."
        )
    settings = json.loads(json.dumps(now.settings))  # as the file holds them
    changed = differences(
        _fixed_settings(saved.settings),
        _fixed_settings(settings),
    )
    changed += differences(saved.inputs, now.inputs, "inputs")
    if changed:
        raise ValueError(
            f"The run in {path} was started with other settings: {'; '.join(changed)}. A resumed "
            f"run may only change {', '.join(sorted(MAY_CHANGE_ON_RESUME))}."
        )
    _check_same_parameters(saved, now, path)
    for part in ("train", "validation"):
        there, here = saved.classes.get(part, []), now.classes.get(part, [])
        if there != here:
            first = f", such as {here[0]!r}" if here else ""
            raise ValueError(
                f"The run in {path} was started with other {part} classes: {len(there)} there"
                f"{f', such as {there[0]!r}' if there else ''}, and {len(here)} here{first}. Use "
                "the data and split that it was started with, or another folder."
            )
        _check_same_data(saved.data.get(part), now.data.get(part), part, path)


def _check_same_parameters(saved: Checkpoint, now: Checkpoint, path: Path) -> None:
    """Refuses parameters of other types, and other frozen parameters."""
    there, here = (
        {n: str(each.dtype) for n, each in some.model.items() if n in saved.model}
        for some in (saved, now)
    )
    if changed := differences(there, here):
        raise ValueError(
            f"The run in {path} was started with parameters of other types: {changed[0]} "
            f"({len(changed)} such)."
        )
    if saved.frozen is None or now.frozen is None:  # a file of an older version
        return
    if other := set(saved.frozen) ^ set(now.frozen):
        name = min(other)
        was, is_ = ("frozen", "learned") if name in saved.frozen else ("learned", "frozen")
        raise ValueError(
            f"The run in {path} was started with other parameters frozen: {name!r} was {was} there "
            f"and is {is_} here ({len(other)} such). Freeze the same layers "
            "(requires_grad_(False)), or train in another folder."
        )


def _check_same_data(
    there: dict[str, Any] | None, here: dict[str, Any] | None, part: str, path: Path
) -> None:
    """Refuses other examples under the same class names, or another source of tasks."""
    if there is None or here is None or not (changed := differences(there, here)):
        return  # files of older versions record nothing about them
    called = {"train": "training"}.get(part, part)
    if "content" not in there or "content" not in here:
        raise ValueError(
            f"The run in {path} was started with another source of {called} tasks. There and here "
            f"differ: {'; '.join(changed)}. Use the source that it was started with, or another "
            "folder."
        )
    what = "other examples"
    if there["examples"] != here["examples"]:
        what = f"{there['examples']} examples there and {here['examples']} here"
    elif there["sizes of classes"] != here["sizes of classes"]:
        what = "other numbers of examples per class"
    elif there["shape"] != here["shape"] or there["type"] != here["type"]:
        what = (
            f"examples {there['shape']} of {there['type']}, not {here['shape']} of {here['type']}"
        )
    raise ValueError(
        f"The run in {path} was started with other {called} data: the classes have the same names, "
        f"but not the same content ({what}). Use the data that it was started with, or another "
        "folder."
    )


def _fixed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumed run may not change, whichever version wrote them."""
    fixed = {k: v for k, v in settings.items() if k not in MAY_CHANGE_ON_RESUME}
    if fixed.get("validation_queries") is None:  # older versions wrote the number
        fixed["validation_queries"] = USUAL_QUERIES
    return fixed
