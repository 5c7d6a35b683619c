"""What several commands share: options for data, and building what the options describe."""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, Namespace

import quickstudy.strategies  # noqa: F401 (their names become known to the parser)
from quickstudy.datasets import ClassDataset, load_dataset
from quickstudy.encoders import Encoder
from quickstudy.inputs import Augmentation, Inputs
from quickstudy.strategies import Strategy
from quickstudy.training import Trainer
from quickstudy.training.description import build, described_class

# Derived from the data and the task, so nobody has to say them twice.
DERIVED_FOR_STRATEGY = {"encoder", "ways", "classes"}
DERIVED_FOR_ENCODER = {"input_shape"}


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser that takes options by their full names only."""
    return ArgumentParser(
        prog=f"quickstudy {command}",
        description=description,
        allow_abbrev=False,
        exit_on_error=False,
    )


def parse(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parses a command's words; what is wrong with them becomes a ValueError.

    Raises:
        ValueError: naming the option, or the configuration file that cannot be read.
    """
    configs = [b for a, b in pairwise(words) if a == "--config"]
    configs += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    for config in configs:
        _check_yaml(Path(config))
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        where = f" (options typed and from {', '.join(configs)})" if configs else ""
        raise ValueError(f"{error}{where}\nAll options: {parser.prog} --help") from error


def _check_yaml(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file {path}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"The configuration file {path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"The configuration file {path} should hold lines like `steps: 1000`; it holds "
            f"{'nothing' if content is None else f'a {type(content).__name__}'}."
        )


def add_data_options(parser: ArgumentParser, data: str | None, split_seed: int | None) -> None:
    """Adds --data, --split, --split_seed, --rotations and --unreadable, with two defaults."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=str | None,
        default=data,
        help="a benchmark's name, a folder, or a repository of the Hugging Face hub",
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
    group.add_argument(
        "--unreadable",
        type=Literal["refuse", "skip"],
        default="refuse",
        help="what to do about an image that cannot be read",
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
        default={"class_path": "quickstudy.PrototypicalNetwork"},
        required=False,
        help="a strategy's name or import path; --strategy.ARGUMENT sets its arguments",
    )
    parser.add_subclass_arguments(
        Encoder,
        "encoder",
        skip=DERIVED_FOR_ENCODER,
        default={"class_path": "quickstudy.Conv4"},
        required=False,
        help="an encoder's name or import path; --encoder.ARGUMENT sets its arguments",
    )
    parser.add_class_arguments(Trainer, None)
    return parser


def load_split(options: Namespace, inputs: Inputs | None = None) -> dict[str, ClassDataset]:
    """The parts of the data that the options name."""
    data = load_dataset(
        options.data, rotations=options.rotations, unreadable=options.unreadable, inputs=inputs
    )
    return data.split(parse_split(options.split), seed=options.split_seed or 0)


def parse_split(text: str | list[float] | None) -> str | list[float] | None:
    """A split's name, or the fractions that ``text`` lists."""
    if not isinstance(text, str):
        return text
    try:
        return [float(part) for part in text.strip("[]()").split(",")]
    except ValueError:
        return text


def choose_part(parts: dict[str, ClassDataset], name: str) -> ClassDataset:
    """The part called ``name``, or several joined by "+"."""
    wanted = name.split("+")
    missing = [part for part in wanted if part not in parts]
    if missing:
        raise ValueError(
            f"The split has no part {missing[0]!r}; its parts are {', '.join(parts)}. Say which "
            "parts to use (--train_part and --validation_part in training, --part in evaluation)."
        )
    return ClassDataset.union([parts[part] for part in wanted], name)


def build_strategy(
    options: Namespace, input_shape: Sequence[int], ways: int, classes: int
) -> Strategy:
    """The strategy that the options describe.

    Args:
        options: of :func:`training_parser`.
        input_shape: of the data.
        ways: classes in a task, for strategies that must know.
        classes: in all of the training data, for strategies that classify them.
    """
    encoder, strategy = plain(options.encoder), plain(options.strategy)
    arguments = strategy.setdefault("init_args", {})
    accepted = inspect.signature(described_class(strategy)).parameters
    if "encoder" in accepted:
        if "input_shape" in inspect.signature(described_class(encoder)).parameters:
            encoder.setdefault("init_args", {})["input_shape"] = list(input_shape)
        arguments["encoder"] = encoder
    learner = arguments.get("learner")  # a network of its own, for the same inputs
    if learner and "input_shape" in inspect.signature(described_class(learner)).parameters:
        learner.setdefault("init_args", {})["input_shape"] = list(input_shape)
    if "ways" in accepted:
        arguments["ways"] = ways
    if "classes" in accepted:
        arguments["classes"] = classes
    built = build(strategy)
    if not isinstance(built, Strategy):
        raise ValueError(f"{strategy['class_path']} is not a strategy.")
    return built


def build_trainer(options: Namespace) -> Trainer:
    """The trainer that the options describe."""
    settings = {field.name: options[field.name] for field in fields(Trainer)}
    settings["augmentation"] = Augmentation(**plain(options.augmentation))
    return Trainer(**settings)


def plain(options: Any) -> Any:
    """Namespaces and paths as dictionaries and strings."""
    if isinstance(options, Namespace):
        options = options.as_dict()
    if isinstance(options, dict):
        return {key: plain(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [plain(value) for value in options]
    return str(options) if isinstance(options, Path) else options
