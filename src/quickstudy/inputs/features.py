"""Vectors of numbers, such as the output of an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from quickstudy.deprecated import RenamedAttribute
from quickstudy.inputs.unreadable import UnreadableError


@dataclass(frozen=True)
class FeatureInputs:
    """Vectors of numbers, which a network reads unchanged.

    Args:
        size: D, the length of a vector.
    """

    modality: ClassVar[str] = "features"
    kind = RenamedAttribute("modality")

    size: int

    def decode(self, raw: Any) -> Tensor:
        """One vector as float32 ``[size]``, from an array, a tensor or a sequence of numbers."""
        try:
            vector = torch.as_tensor(raw, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UnreadableError(
                f"A vector of {self.size} numbers was expected, not a {type(raw).__name__} that "
                "holds none."
            ) from error
        if vector.shape != (self.size,):
            raise UnreadableError(
                f"A vector of {self.size} numbers was expected, but its shape is "
                f"{list(vector.shape)}."
            )
        return vector

    def prepare(self, stored: Tensor) -> Tensor:
        """The vectors ``[B, size]`` themselves."""
        return stored

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {"kind": self.modality, "size": self.size}
