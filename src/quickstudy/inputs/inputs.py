"""The contract of inputs of every modality."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from quickstudy.deprecated import warn_renamed
from quickstudy.errors import InputError


@runtime_checkable
class Inputs(Protocol):
    """Turns a raw item into a stored tensor, and stored tensors into a network's input."""

    modality: ClassVar[str]
    """"image", "text" and so on: data of one modality can replace other data of that modality."""

    def decode(self, raw: Any) -> Tensor:
        """The stored tensor ``[*shape]`` of one raw item."""
        ...

    def prepare(self, stored: Tensor) -> Tensor:
        """The network's input, from stored tensors ``[B, *shape]``."""
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
