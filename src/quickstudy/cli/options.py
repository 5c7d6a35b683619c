"""What several commands share: options for data, and building what the options describe."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import nn
from torch.nn.parameter import is_lazy

import quickstudy.strategies  # noqa: F401 (their names become known to the parser)
from quickstudy.cli.parsing import add_trust, add_unreadable, needs, new_parser
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.counts import Count, as_whole, whole_range
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.datasets.sources.rows import Where
from quickstudy.encoders import Encoder
from quickstudy.errors import InputError
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.messages import UsageError, reason
from quickstudy.saving.description import Description, build, described_class
from quickstudy.saving.trust import is_own
from quickstudy.strategies import Strategy
from quickstudy.training import Trainer
from quickstudy.training.settings import Settings

# Derived from the data and the task, so nobody has to say them twice.
DERIVED_FOR_STRATEGY = {"encoder", "ways", "classes"}
DERIVED_FOR_ENCODER = {"input_shape", "vocabulary", "rate"}

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


def add_data_options(parser: ArgumentParser, data: str | None, split_seed: int | None) -> None:
    """Adds --data and what says how it is read and divided, with two defaults."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=str | None,
        default=data,
        help="a benchmark's name, a folder of images, texts or sounds, a table (.csv, .jsonl, "
        ".parquet), or a repository of the Hugging Face hub",
    )
    group.add_argument(
        "--split",
        type=str | list[float] | None,
        help="a published split by name, or fractions of the classes such as 0.6,0.2,0.2; by "
        "default the data's own first",
    )
    group.add_argument(
        "--split_seed", type=int | None, default=split_seed, help="for a split by fractions"
    )
    group.add_argument(
        "--rotations",
        type=bool | None,
        help="make four classes of each by quarter turns; by default as the benchmark has it",
    )
    add_unreadable(group)
    group.add_argument(
        "--input_column", type=str | None, help="of images, texts or sounds, where it is not clear"
    )
    group.add_argument("--label_column", type=str | None, help="of classes, where it is not clear")
    group.add_argument(
        "--configuration", type=str | None, help="which of a repository's several data sets"
    )
    group.add_argument(
        "--data_split",
        type=str | None,
        help='only the examples of this data split, e.g. "train"; all are pooled by default',
    )
    group.add_argument(
        "--where",
        type=dict[str, list[str | int] | str] | None,
        help='only rows with these values, e.g. \'{"speaker": ["1", "2"]}\', or with those of a '
        "part of a split in class_splits.json, e.g. --where.speaker speakers/train",
    )


def training_parser(command: str, description: str) -> ArgumentParser:
    """All options of a training run: data, strategy, encoder, trainer."""
    parser = new_parser(command, description)
    parser.add_argument("--config", action="config", help="a YAML file of these options")
    add_data_options(parser, data="glyphs", split_seed=0)
    group = parser.add_argument_group("parts of the split")
    group.add_argument("--train_part", type=str, default="train", help='e.g. "train+validation"')
    group.add_argument(
        "--validation_part",
        type=str | None,
        default="validation",
        help="for meta-validation, where the split has it; null for none",
    )
    parser.add_subclass_arguments(
        Strategy,
        "strategy",
        skip=DERIVED_FOR_STRATEGY,
        default={"class_path": "quickstudy.strategies.PrototypicalNetwork"},
        required=False,
        fail_untyped=False,  # arguments of a class of one's own often have no types
        help="a strategy's name or import path; --strategy.ARGUMENT sets its arguments",
    )
    parser.add_subclass_arguments(
        Encoder,
        "encoder",
        skip=DERIVED_FOR_ENCODER,
        required=False,
        fail_untyped=False,
        help="an encoder's name or import path; --encoder.ARGUMENT sets its arguments. By default "
        "Conv4 for images, TextEncoder for texts, AudioCNN for sounds",
    )
    parser.add_class_arguments(Trainer, None, skip={"callbacks"})
    add_trust(parser)
    return parser


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
            f"The split has no part {missing[0]!r}; its parts are {', '.join(parts)}. Say which "
            "parts to use (--train_part and --validation_part in training, --part in evaluation)."
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
    text = f"Measured on {part.classes} of the {in_all} classes (part {name} of: {sizes})."
    if part.classes < in_all:
        text += " --part all measures all of them."
    seen = len(set(part.class_names) & set(learned))
    if seen:
        text += f" The run was trained on classes with the same names as {seen} of these."
    return text


def encoder_for(options: Namespace, modality: str = "image") -> Description:
    """The encoder that the options name, else the default for this modality."""
    named: Description | None = plain(options.encoder)
    return named or {"class_path": MODALITIES[modality].encoder}


def build_strategy(
    options: Namespace,
    input_shape: Sequence[int],
    ways: Count,
    classes: int,
    inputs: Inputs | None = None,
) -> Strategy:
    """The strategy that the options describe.

    Args:
        options: of :func:`training_parser`.
        input_shape: of the data.
        ways: classes in a task, for strategies that must know.
        classes: in all of the training data, for strategies that classify them.
        inputs: of the data, from which an encoder's vocabulary or rate follow; images by default.
    """
    modality = inputs.modality if inputs else "image"
    encoder, strategy = encoder_for(options, modality), plain(options.strategy)
    arguments = strategy.setdefault("init_args", {})
    accepted = inspect.signature(described_class(strategy)).parameters
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
    check_given("strategy", strategy)
    made: dict[int, nn.Module] = {}
    if "encoder" in accepted and not is_own(encoder["class_path"]):
        check_given("encoder", encoder)
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
    for name in DERIVED_FOR_ENCODER - {"input_shape"}:
        if hasattr(inputs, name):
            derived[name] = getattr(inputs, name)
    accepted = inspect.signature(described_class(network)).parameters
    arguments = network.setdefault("init_args", {})
    arguments.update({name: value for name, value in derived.items() if name in accepted})


def check_given(option: str, description: Description) -> None:
    """Refuses (UsageError) a class that lacks arguments; the parser gives those without types None.

    Args:
        option: that names the class.
        description: of what is to be made, with all that follows from the data.
    """
    given = description.get("init_args", {})
    missing = [
        name
        for name, parameter in inspect.signature(described_class(description)).parameters.items()
        if parameter.default is parameter.empty
        and parameter.annotation is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and given.get(name) is None
    ]
    if missing:
        raise UsageError(needs(option, description["class_path"], missing))


def check_counts(options: Namespace, **least: int) -> None:
    """Refuses numbers or ranges that are lower than they can be; None is as good as not given.

    Args:
        options: of a command.
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
    settings = {field.name: options[field.name] for field in fields(Settings)}
    try:
        settings["augmentation"] = Augmentation(**plain(options.augmentation))
        return Trainer(**settings)
    except ValueError as error:
        raise UsageError(str(error)) from error


def plain(options: Any) -> Any:
    """Namespaces and paths as dictionaries and strings."""
    if isinstance(options, Namespace):
        options = options.as_dict()
    if isinstance(options, dict):
        return {key: plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [plain(value) for value in options]
    return str(options) if isinstance(options, Path) else options
