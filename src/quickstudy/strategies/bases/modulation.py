"""The modulation of an encoder's layers: emitted from a task's code, and used to encode."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from quickstudy.compute.encoding import encoded
from quickstudy.errors import InputError
from quickstudy.strategies.strategy import Theta


class Modulations(nn.ModuleList):
    """For each layer of an encoder a scale and a shift, from the code of a task.

    At the start of meta-training both are zero: the encoder as it is.

    Args:
        emitters: for each layer, from codes ``[T, width]`` to scale and shift
            ``[T, 2 * channels]``; each ends with a linear layer.
    """

    def __init__(self, emitters: Iterable[nn.Module]) -> None:
        super().__init__(emitters)
        for emitter in self:
            *_, last = (layer for layer in emitter.modules() if isinstance(layer, nn.Linear))
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, code: Tensor) -> Theta:
        """Scale and shift of each layer, each ``[T, channels]``, from codes ``[T, width]``."""
        theta: Theta = {}
        for number, emitter in enumerate(self):
            scale, shift = emitter(code).chunk(2, dim=-1)
            theta |= {f"modulation.{number}.scale": scale, f"modulation.{number}.shift": shift}
        return theta


def modulated_channels(encoder: nn.Module, otherwise: str = "") -> tuple[int, ...]:
    """How many channels each layer has that can be modulated.

    Args:
        encoder: states them as ``modulated_channels``.
        otherwise: what else one may do, for the error's sentence.

    Raises:
        ValueError: when the encoder states none.
    """
    channels = getattr(encoder, "modulated_channels", None)
    if channels is None:
        raise InputError(
            f"The encoder {type(encoder).__name__} cannot be modulated: it states no "
            f"`modulated_channels`. Use Conv4, ResNet12 or MLP{otherwise}."
        )
    return tuple(channels)


def modulated_features(encoder: nn.Module, inputs: Tensor, theta: Theta) -> Tensor:
    """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``, each task's modulated as its θ says."""
    each = inputs.shape[1]
    modulation = [
        tuple(
            theta[f"modulation.{number}.{part}"].repeat_interleave(each, 0)
            for part in ("scale", "shift")
        )
        for number in range(sum(name.startswith("modulation.") for name in theta) // 2)
    ]
    features = encoded(encoder, inputs.flatten(0, 1), modulation)
    return features.view(*inputs.shape[:2], -1)
