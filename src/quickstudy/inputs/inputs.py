"""The contract of inputs of every modality."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from quickstudy.deprecated import warn_renamed
from quickstudy.errors import InputError


@runtime_checkable
class Inputs(Protocol):
    """How a raw thing becomes a tensor that is stored, and that one what a network reads."""

    modality: ClassVar[str]
    """"image", "text" and so on: data of one modality can replace other data of that modality."""

    def decode(self, raw: Any) -> Tensor:
        """The stored tensor ``[*shape]`` of one raw thing."""
        ...

    def prepare(self, stored: Tensor) -> Tensor:
        """What a network reads, from stored tensors ``[B, *shape]``."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        ...


def check_inputs(given: Any) -> None:
    """Refuses what are no inputs, such as a class of them or its name (ValueError)."""
    of_class = type(given)
    if not hasattr(of_class, "modality") and isinstance(getattr(of_class, "kind", None), str):
        warn_renamed(f"the attribute kind of {of_class.__name__}", "modality", stacklevel=3)
        of_class.modality = of_class.kind
    if isinstance(given, type) or not isinstance(given, Inputs):
        called = repr(given) if isinstance(given, str) else type(given).__name__
        called = f"the class {given.__name__}" if isinstance(given, type) else called
        raise InputError(
            f"The argument inputs is {called}; give an object that turns examples into "
            "tensors, such as quickstudy.inputs.ImageInputs(84) or "
            "quickstudy.inputs.FeatureInputs(16)."
        )


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
    from quickstudy.inputs.features import FeatureInputs
    from quickstudy.inputs.modalities import MODALITIES, imported

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
