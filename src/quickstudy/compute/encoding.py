"""How encoders are called: one loop over batches, and checks of what they return."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.errors import InputError


class UnfitInputsError(InputError, RuntimeError):
    """An encoder cannot read inputs of a shape or type; replaces torch's error message."""


def check_encoder(encoder: object, owner: str) -> None:
    """Refuses (ValueError) anything but a network as the encoder of ``owner``, a strategy."""
    if isinstance(encoder, nn.Module) and not hasattr(encoder, "predict_features"):
        return
    if isinstance(encoder, nn.Module):
        given = f"a {type(encoder).__name__}, which is a strategy; give its encoder"
    elif isinstance(encoder, type):
        given = f"the class {encoder.__name__}; give an instance of it"
    elif isinstance(encoder, str):
        given = (
            f"{encoder!r}, a name; give the network itself. A pretrained one is made by "
            "PretrainedImageEncoder, PretrainedTextEncoder or PretrainedAudioEncoder of "
            "quickstudy.encoders"
        )
    else:
        given = (
            f"{'None' if encoder is None else f'a {type(encoder).__name__}'}; give a torch module "
            "that maps inputs [B, *shape] to vectors [B, D], such as "
            "quickstudy.encoders.Conv4((3, 84, 84))"
        )
    raise InputError(f"The encoder of {owner} is {given}.")


def encoded(encoder: nn.Module, x: Tensor, *arguments: object) -> Tensor:
    """Vectors ``[B, D]`` of inputs ``[B, *shape]``: every strategy calls its encoder through this.

    If the encoder has another floating type than the inputs, they are converted to it, and its
    vectors to float32.

    Args:
        encoder: of any kind.
        x: the inputs.
        arguments: further arguments of the encoder.

    Raises:
        ValueError: when it does not return vectors, or cannot read the inputs.
    """
    first = next(encoder.parameters(), None)
    cast = False
    if first is not None:
        if first.device != x.device:
            raise InputError(
                f"The encoder {type(encoder).__name__} is on {first.device} and its inputs are on "
                f"{x.device}; move both to one device."
            )
        cast = (
            first.dtype != x.dtype
            and x.is_floating_point()
            and first.is_floating_point()
            and not torch.is_autocast_enabled(x.device.type)
        )
    try:
        found = encoder(x.to(first.dtype) if cast and first is not None else x, *arguments)
    except RuntimeError as error:
        if _is_of_torch(error):
            raise
        raise UnfitInputsError(_cannot_read(encoder, x)) from error
    if not (isinstance(found, Tensor) and found.ndim == 2 and found.is_floating_point()):
        _refuse_features(encoder, found, len(x))
    if found.shape[0] != x.shape[0]:
        _refuse_features(encoder, found, len(x))
    vectors: Tensor = found.float() if cast else found
    return vectors


def encoded_tasks(encoder: nn.Module, inputs: Tensor) -> Tensor:
    """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``, encoded as one batch."""
    return encoded(encoder, inputs.flatten(0, 1)).view(*inputs.shape[:2], -1)


def encode_batches(encoder: nn.Module, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, float]]:
    """Encodes batches one by one, in evaluation mode and without gradients.

    Between batches the encoder is in its own mode, so a caller can stop after any of them.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        batches: inputs on the encoder's device.

    Yields:
        The vectors of each batch, and the seconds that the encoder took for them.
    """
    for inputs in batches:
        started = now(inputs.device)
        with evaluating(encoder):
            vectors = encoded(encoder, inputs)
        yield vectors, now(inputs.device) - started


def now(device: torch.device | str) -> float:
    """The time in seconds after ``device`` has finished all pending work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Encoded(nn.Module):
    """An encoder whose passes go through :func:`encoded`, with its parameters under ``encoder``."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, D]`` of inputs ``[B, *shape]``."""
        return encoded(self.encoder, x)


def check_finite(encoder: nn.Module, features: Tensor) -> None:
    """Refuses (ValueError) vectors ``[B, D]`` that hold NaN or infinity."""
    if not bool(features.isfinite().all()):
        row = int((~features.isfinite()).any(1).nonzero()[0])
        raise InputError(
            f"The encoder {type(encoder).__name__} returns NaN or infinity for input {row} of "
            f"{len(features)}. Check its weights and its inputs."
        )


def _is_of_torch(error: RuntimeError) -> bool:
    """Whether an error is not about the inputs: memory, the device, or a transform's own."""
    if isinstance(error, torch.OutOfMemoryError | NotImplementedError):
        return True
    return any(word in str(error) for word in ("memory", "CUDA", "cuda", "vmap"))


def _cannot_read(encoder: nn.Module, x: Tensor) -> str:
    shape = getattr(encoder, "input_shape", None)
    reads = f"it reads inputs of shape {list(shape)}" if shape else "check its first layer"
    return (
        f"The encoder {type(encoder).__name__} cannot read {str(x.dtype).removeprefix('torch.')} "
        f"inputs [B, *{list(x.shape[1:])}]; {reads}. Give inputs of its shape and type, or another "
        "encoder."
    )


def _refuse_features(encoder: nn.Module, found: object, count: int) -> None:
    name, what_to_do = type(encoder).__name__, "Its forward method must return one tensor."
    if isinstance(found, Tensor):
        said = f"a tensor {list(found.shape)} of {str(found.dtype).removeprefix('torch.')}"
        what_to_do = "Pool or flatten its output (nn.Flatten())."
        if found.ndim == 2:
            what_to_do = "Each input needs one row of floating-point numbers."
    else:
        said = "None" if found is None else f"a {type(found).__name__}"
    raise InputError(
        f"The encoder {name} returns {said} for {count} inputs; it must return vectors [B, D]. "
        f"{what_to_do}"
    )
