"""Shared by several commands: data options, and building the objects that options describe."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn
from torch.nn.parameter import is_lazy

from quickstudy.cli.classes import DERIVED
from quickstudy.cli.parsing import plain
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.counts import Count, as_whole, whole_range
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.datasets.sources.rows import Where
from quickstudy.errors import InputError
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.messages import UsageError, reason
from quickstudy.saving.description import Description, build, described_class
from quickstudy.saving.trust import is_own
from quickstudy.strategies import Strategy
from quickstudy.training import Trainer
from quickstudy.training.settings import Settings

WHICH_DATA = (
    "data",
    "split",
    "split_seed",
    "rotations",
    "input_column",
    "label_column",
    "configuration",
    "data_split",
    "where",
)
"""The options that say which examples are read and how their classes are divided."""


def load_split(options: Namespace, inputs: Inputs | None = None) -> dict[str, ClassDataset]:
    """The parts of the data that the options name."""
    where: Where | None = plain(options.where)
    division = parse_split(options.split)
    data = load_dataset(  # nosec B615 # this package's own, which pins what it downloads
        options.data,
        rotations=options.rotations,
        inputs=inputs,
        unreadable=options.unreadable,
        input_column=options.input_column,
        label_column=options.label_column,
        configuration=options.configuration,
        split=options.data_split,
        where=where,
        class_splits=division if isinstance(division, str) else None,
    )
    return data.split(division, seed=options.split_seed or 0)


def parse_split(text: str | list[float] | None) -> str | list[float] | None:
    """A split's name, or the fractions that ``text`` lists."""
    if not isinstance(text, str):
        return text
    try:
        return [float(part) for part in text.strip("[]()").split(",")]
    except ValueError:
        return text


def choose_part(parts: dict[str, ClassDataset], name: str) -> ClassDataset:
    """The part called ``name``; also several joined by "+", or "all"."""
    wanted = list(parts) if name == "all" and name not in parts else name.split("+")
    missing = [part for part in wanted if part not in parts]
    if missing:
        raise InputError(
            f"There is no split {missing[0]!r}; the splits are {', '.join(parts)}. Choose among "
            "them with --train-split and --validation-split in training and --test-split in "
            "evaluation."
        )
    return ClassDataset.union([parts[part] for part in wanted], name)


def same_place(data: str, trained_on: str | None) -> bool:
    """Whether the data that are named are those that a run was trained on."""
    return data == trained_on or (
        trained_on is not None and Path(data).exists() and str(Path(data).resolve()) == trained_on
    )


def measured_on(
    part: ClassDataset, parts: dict[str, ClassDataset], name: str, learned: Sequence[str]
) -> str:
    """Sentences that state which classes were measured, and whether training saw them."""
    in_all = sum(each.classes for each in parts.values())
    sizes = ", ".join(f"{each} {of.classes}" for each, of in parts.items())
    text = f"Measured on {part.classes} of the {in_all} classes (split {name} of: {sizes})."
    if part.classes < in_all:
        text += " --test-split all measures all of them."
    seen = len(set(part.class_names) & set(learned))
    if seen:
        text += f" The run was trained on classes with the same names as {seen} of these."
    return text


def encoder_for(named: Description | None, modality: str = "image") -> Description:
    """A copy of the encoder that was named, else the default for this modality."""
    return copy.deepcopy(named) or {"class_path": MODALITIES[modality].encoder}


def build_strategy(
    options: Namespace,
    input_shape: Sequence[int],
    ways: Count,
    classes: int,
    inputs: Inputs | None = None,
) -> Strategy:
    """The strategy that the options describe.

    Args:
        options: options of a training run.
        input_shape: input shape of the data.
        ways: number of classes per task, for strategies that must know it.
        classes: in all of the training data, for strategies that classify them.
        inputs: inputs of the data, from which an encoder learns its vocabulary or rate.
    """
    strategy = copy.deepcopy(options.strategy)
    strategy_class = described_class(strategy)
    made_for = getattr(strategy_class, "modality", None) or "image"
    encoder = encoder_for(options.encoder, inputs.modality if inputs else made_for)
    arguments = strategy.setdefault("init_args", {})
    accepted = inspect.signature(strategy_class).parameters
    if "encoder" in accepted:
        fit_to_inputs(encoder, input_shape, inputs)
        arguments["encoder"] = encoder
    if learner := arguments.get("learner"):  # a network of its own, for the same inputs
        fit_to_inputs(learner, input_shape, inputs)
    if "ways" in accepted:
        if as_whole(ways) is None:
            name = strategy["class_path"].rpartition(".")[2]
            raise InputError(
                f"ways is the range {plain(ways)}, but {name} has one output per class and needs a "
                "fixed number. Give one number of ways, or choose a strategy that works with any "
                "number, such as PrototypicalNetwork."
            )
        arguments["ways"] = ways
    if "classes" in accepted:
        arguments["classes"] = classes
    made: dict[int, nn.Module] = {}
    if "encoder" in accepted and not is_own(encoder["class_path"]):
        made[id(encoder)] = module = build(encoder)
        if any(is_lazy(each) for each in module.parameters()):
            _show_one_batch(module, input_shape, inputs)
    built = build(strategy, made)
    if not isinstance(built, Strategy):
        raise InputError(f"{strategy['class_path']} is not a strategy.")
    return built


def _show_one_batch(module: nn.Module, input_shape: Sequence[int], inputs: Inputs | None) -> None:
    """Lets layers that take their sizes from a first batch have them.

    Raises:
        ValueError: when the module cannot read such a batch.
    """
    is_text = inputs is not None and inputs.modality == "text"
    batch = torch.zeros(2, *input_shape, dtype=torch.int64 if is_text else torch.float32)
    try:
        with evaluating(module):
            module(batch)
    except Exception as error:  # of somebody's own code
        raise InputError(
            f"The encoder {type(module).__name__} cannot read inputs of the shape "
            f"{list(batch.shape)}: {reason(error)}"
        ) from error


def fit_to_inputs(network: Description, input_shape: Sequence[int], inputs: Inputs | None) -> None:
    """Sets those arguments of a described network that follow from what it reads."""
    derived: dict[str, Any] = {"input_shape": list(input_shape)}
    for name in DERIVED["encoder"] - {"input_shape"}:
        if hasattr(inputs, name):
            derived[name] = getattr(inputs, name)
    accepted = inspect.signature(described_class(network)).parameters
    arguments = network.setdefault("init_args", {})
    arguments.update({name: value for name, value in derived.items() if name in accepted})


def check_counts(options: Namespace, **least: int) -> None:
    """Refuses numbers or ranges that are lower than they can be; None is as good as not given.

    Args:
        options: options of a command.
        least: for each of these options what it must be at least.

    Raises:
        UsageError: naming the option.
    """
    for name, lowest in least.items():
        if options[name] is not None:
            try:
                whole_range(options[name], f"--{name}", lowest)
            except ValueError as error:
                raise UsageError(str(error)) from error


def build_trainer(options: Namespace) -> Trainer:
    """The trainer that the options describe.

    Raises:
        UsageError: when they are out of range.
    """
    settings: dict[str, Any] = {}
    for setting in fields(Settings):
        settings[setting.name] = options[setting.name]
    try:
        settings["augmentation"] = Augmentation(**plain(options.augmentation))
        return Trainer(**settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
