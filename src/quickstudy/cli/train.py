"""``quickstudy train``: meta-train a strategy."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from quickstudy.cli.options import (
    build_strategy,
    build_trainer,
    choose_part,
    encoder_for,
    load_split,
)
from quickstudy.cli.parsing import config_of, parsed
from quickstudy.cli.reading import Given
from quickstudy.cli.usage.training import TRAIN
from quickstudy.compute.ranks import rank
from quickstudy.datasets import ClassDataset
from quickstudy.datasets.sources.catalogue import ALIASES, BENCHMARKS
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs import inputs_from_dict
from quickstudy.messages import UsageError
from quickstudy.runs import Run
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.files import check_folder_writable
from quickstudy.strategies import Strategy


def run(given: Given) -> int:
    """Trains; returns the exit code."""
    resumed = given.options.get("resume")
    options = parsed(given, _config_of_run(resumed) if resumed else None)
    if options.resume and options.out:
        raise UsageError(
            "Give --resume RUN to continue a run, or --out RUN to start one, but not both."
        )
    finished = train(
        options, options.resume or options.out or _default_out(options), bool(options.resume)
    )
    # Who starts processes takes any code but 0 for a failure, and ends the others.
    return 0 if finished.progress["finished"] or rank() else 130


def train(options: Namespace, out: str | Path, resume: bool, until: int | None = None) -> Run:
    """One training run, as its options describe it.

    ``until`` is the step to stop after, where not all are wanted yet (:meth:`Trainer.fit`).
    """
    trainer = build_trainer(options)
    check_folder_writable(Path(out))
    # A resumed run reads its data as it did: texts by the subwords it has learned, above all.
    saved = RunDirectory(out).newest(say=False) if resume else None
    inputs = inputs_from_dict(saved.inputs) if saved is not None else None
    parts = load_split(options, inputs)
    training = choose_part(parts, options.train_split)
    options.encoder = encoder_for(options.encoder, training.inputs.modality)
    config = config_of(TRAIN, options) | {"data": data_from_anywhere(options.data)}
    for name in ("out", "resume"):
        config.pop(name, None)
    validation = None
    if options.validation_split in parts or options.validation_split not in (None, "validation"):
        validation = choose_part(parts, options.validation_split)
    torch.manual_seed(options.seed)  # for φ's first values; training seeds every task itself
    strategy = build_strategy(
        options, training.shape, options.ways, training.classes, training.inputs
    )
    if validation is not None and _too_few_classes(strategy, validation, options):
        warnings.warn(
            f"This {type(strategy).__name__} is for tasks of {strategy.ways} ways, but "
            f"{validation.name} has {validation.classes} classes, so there is no validation.",
            stacklevel=2,
        )
        validation = None
    return trainer.fit(
        strategy, training, validation, out=out, resume=resume, config=config, until=until
    )


def _too_few_classes(strategy: Strategy, validation: ClassDataset, options: Namespace) -> bool:
    """Whether validation is impossible, though nobody asked for it."""
    asked = options.validation_ways or options.validation_split != "validation" or options.patience
    return not asked and strategy.ways is not None and strategy.ways > validation.classes


def data_from_anywhere(data: str) -> str:
    """The value of ``--data`` in a form that is valid from other folders too."""
    named = data in BENCHMARKS or data in ALIASES
    return data if named or not Path(data).exists() else str(Path(data).resolve())


def _default_out(options: Namespace) -> str:
    name = options.strategy["class_path"].rpartition(".")[2]
    return str(Path("runs") / f"{name}-{options.data.strip('./').replace('/', '-')}")


def _config_of_run(path: str) -> dict[str, Any]:
    """The options with which the resumed run was started."""
    directory = RunDirectory(path)
    if not directory.can_be_resumed():
        raise MissingFileError(f"There is no run to resume in {path}.")
    saved = directory.newest(say=False)
    config = saved.config if saved is not None else directory.read_config()
    if "data" not in config:
        raise InputError(
            f"The run in {path} was started from Python, so its data are not known here. "
            "Continue it there: fit(..., resume=True)."
        )
    return config
