"""Inputs as JSON-ready descriptions, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from quickstudy.errors import InputError
from quickstudy.inputs.features import FeatureInputs
from quickstudy.inputs.inputs import Inputs
from quickstudy.inputs.modalities import MODALITIES, imported


def described_inputs(inputs: Inputs) -> dict[str, Any]:
    """The result of ``to_dict``, checked to rebuild the same inputs.

    Raises:
        ValueError: when it would not.
    """
    name = type(inputs).__name__
    try:
        description: dict[str, Any] = json.loads(json.dumps(inputs.to_dict()))
        again = inputs_from_dict(description)
        same = type(again) is type(inputs) and json.dumps(again.to_dict()) == json.dumps(
            inputs.to_dict()
        )
    except (ValueError, TypeError, AttributeError, OSError):
        same = False
    if not same:
        raise InputError(
            f"The inputs are a {name}, which cannot be rebuilt from a file, so anything saved with "
            "them could not be loaded. Use inputs of quickstudy (ImageInputs, TextInputs, "
            "AudioInputs, FeatureInputs), and do any further processing before you create the data "
            "set, or in the encoder."
        )
    return description


def inputs_from_dict(description: Mapping[str, Any]) -> Inputs:
    """Makes an inputs object from what its ``to_dict`` gave.

    Raises:
        ValueError: when it is nothing that ``to_dict`` gives.
    """
    if not isinstance(description, Mapping):
        raise InputError(f"A description of inputs is needed, not {str(description)[:60]!r}.")
    settings = dict(description)
    modality = str(settings.pop("kind", None))
    made: Callable[..., Inputs]
    if modality == FeatureInputs.modality:
        made = FeatureInputs
    elif modality not in MODALITIES:
        known = ", ".join([*MODALITIES, FeatureInputs.modality])
        raise InputError(f"Inputs of modality {modality!r} are unknown; choose {known}.")
    else:
        of = MODALITIES[modality]
        by_model = "pretrained" in settings  # described by the model whose inputs they are
        made = imported((by_model and of.pretrained_inputs) or of.inputs)
    if "pretrained" in settings:
        settings["name"] = settings.pop("pretrained")
    try:
        return made(**settings)
    except (TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"Inputs of modality {modality!r} cannot be made from {str(settings)[:200]}: {error}."
        ) from error
