"""``learn --encoder my_module.Net --encoder.channels 4``: your own class as an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.classifier.encoders import load_encoder
from quickstudy.classifier.raw import modality_of
from quickstudy.cli.classes import described, find_class, is_python_file
from quickstudy.cli.command import dashed
from quickstudy.cli.options import fit_to_inputs
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.encoders.own import is_import_path
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs, TextInputs, UnreadableError
from quickstudy.inputs.modalities import MODALITIES, decoded
from quickstudy.inputs.text import read_text_file
from quickstudy.messages import UsageError, reason
from quickstudy.saving.description import build


def own_encoder(
    name: str | None, arguments: Mapping[str, Any], raw: Sequence[Any]
) -> tuple[str | nn.Module | None, Inputs | None]:
    """The encoder that ``--encoder`` names, and its inputs if its name does not determine them.

    A class is instantiated once, with the arguments that were typed and those that follow from the
    inputs. Its attribute ``inputs`` describes its inputs; without it, examples are read as
    ``load_dataset`` reads them.

    Raises:
        UsageError: arguments were given, but the encoder is not a class.
        ValueError: the class cannot be instantiated, or its instance cannot encode these inputs.
    """
    is_class = name is not None and (is_import_path(name) or is_python_file(name))
    if name is None or Path(name).exists() or not is_class:
        if arguments:
            raise UsageError(
                f"--encoder.{dashed(next(iter(arguments)))} sets an argument of an encoder class, "
                "but --encoder names no class; name one by its import path, such as "
                "my_module.MyClass."
            )
        return name, None
    cls = find_class("encoder", "encoder", name)
    if cls.__module__.startswith("quickstudy."):
        return load_encoder(cls.__name__), None  # type: ignore[return-value]  # raises
    description = described(
        "encoder", "encoder", {"class_path": name, "init_args": dict(arguments)}
    )
    usual = _usual_inputs(raw)
    stored = _first_stored(raw, usual)
    fit_to_inputs(description, stored.shape, usual)
    module = build(description).eval()
    own = getattr(module, "inputs", None)
    if isinstance(own, Inputs):
        stored, usual = _first_stored(raw, own), own
    _check(module, usual, torch.stack([stored, stored]))
    return module, usual


def _usual_inputs(raw: Sequence[Any]) -> Inputs:
    inputs = MODALITIES[modality_of(raw)].default_inputs()
    return inputs or TextInputs.learned(
        read_text_file(each) if isinstance(each, Path) else each for each in raw
    )


def _first_stored(raw: Sequence[Any], inputs: Inputs) -> Tensor:
    """The first example that can be read, as it is stored."""
    problem = None
    for each in raw:
        try:
            return decoded(inputs, each)
        except UnreadableError as error:
            problem = problem or error
    raise InputError(f"None of the {len(raw)} inputs can be read. {problem}")


def _check(module: nn.Module, inputs: Inputs, stored: Tensor) -> None:
    """Refuses an encoder that maps such inputs to no vectors ``[B, D]``, before all are read."""
    name = type(module).__name__
    try:
        with evaluating(module):
            vectors: Any = module(inputs.prepare(stored))
    except Exception as error:  # third-party code may raise anything
        raise InputError(
            f"The encoder {name} cannot read {inputs.modality} inputs [B, "
            f"{', '.join(map(str, stored.shape[1:]))}] ({reason(error)}) State what it reads in an "
            "attribute; for images: self.inputs = quickstudy.inputs.ImageInputs(size=32)."
        ) from error
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != 2:
        given = list(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise InputError(
            f"The encoder {name} returns {given} for 2 inputs; it must return vectors [2, D]. Pool "
            "and flatten its output, or return only the tensor of vectors."
        )
