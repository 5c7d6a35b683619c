"""From raw inputs to what a strategy reads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.classifier.raw import as_tensor, is_array, items
from quickstudy.compute.devices import device_of
from quickstudy.compute.encoding import UnfitInputsError, encode_batches
from quickstudy.compute.evaluation_mode import Answering
from quickstudy.datasets.decoded.decoding import decoded_batches, decoded_tensor
from quickstudy.datasets.in_memory import check_brightness
from quickstudy.encoders.embedding import embed_stored
from quickstudy.encoders.feature_cache import FeatureCache
from quickstudy.encoders.pretrained.encoder import PretrainedEncoder
from quickstudy.errors import InputError
from quickstudy.evaluation.observing import check_sees_each_by_itself
from quickstudy.inputs import FeatureInputs, Inputs, UnreadableError
from quickstudy.inputs.modalities import is_text
from quickstudy.inputs.text import read_text_file
from quickstudy.inputs.unreadable import EmptyError
from quickstudy.progress import report

DECODED_AT_ONCE = 1024
ENCODED_AT_ONCE = 64
SAMPLED = 4
THUMBNAIL_SIDE = 64
_SAY_HOW = (
    "give inputs= too, such as inputs=quickstudy.inputs.ImageInputs(size=32, channels=3) for "
    "images."
)


@dataclass
class Reader:
    """How raw inputs become what a strategy reads: decoded, then encoded if there is an encoder.

    The stored form of an example is its vector, or without an encoder the form of its inputs.

    Args:
        inputs: decodes and prepares inputs; None for arrays that are read as they are.
        encoder: maps prepared inputs ``[B, *shape]`` to vectors ``[B, D]``, the same for every
            task; None where the strategy reads the inputs itself.
        name: name of the encoder, if it was loaded by name.
        revision: of that name.
        cache: keeps the encoder's vectors on the disk; for encoders that were loaded by name.
        device: where vectors are computed and stored.
        sample: a few of the prepared inputs that the encoder has read.
    """

    inputs: Inputs | None = None
    encoder: nn.Module | None = None
    name: str | None = None
    revision: str | None = None
    cache: FeatureCache | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    sample: Tensor | None = field(default=None, repr=False)
    _encoders: Answering[nn.Module] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.encoder is not None:
            # Encoders of this package store nothing about a call in their attributes.
            copies = not isinstance(self.encoder, PretrainedEncoder)
            self._encoders = Answering(self.encoder, copies)

    @property
    def modality(self) -> str:
        """The modality of the inputs; "features" for arrays that are read as they are."""
        return FeatureInputs.modality if self.inputs is None else self.inputs.modality

    @property
    def gives_vectors(self) -> bool:
        """Whether what the strategy reads are features that somebody else made."""
        bare = self.inputs is None or isinstance(self.inputs, FeatureInputs)
        return self.encoder is not None or bare

    def read(self, raw: Any, like: Tensor) -> Tensor:
        """The stored form of N raw inputs; if they are encoded, only a few at a time are decoded.

        Texts with nothing to read, and inputs for which the encoder returns NaN or infinity, get
        rows that :func:`unread` recognises.

        Args:
            raw: the inputs.
            like: the stored form of other inputs, ``[M, *shape]``.

        Raises:
            ValueError: as :meth:`decode`.
        """
        if self.inputs is None or (self.encoder is None and not is_text(self.modality)):
            return self.keep(self.decode(raw))
        if self.modality == "image":
            _check_several(raw)
        single = items(raw)
        starts = range(0, max(1, len(single)), DECODED_AT_ONCE)
        parts = [
            self._part(single[start : start + DECODED_AT_ONCE], start, like) for start in starts
        ]
        return torch.cat(parts)

    def _part(self, single: list[Any], first: int, like: Tensor) -> Tensor:
        if self.inputs is None or not is_text(self.modality) or not single:
            return self.keep(self.decode(single, first))
        decoded: dict[int, Tensor] = {}
        for number, each in enumerate(single):
            with contextlib.suppress(EmptyError):
                decoded[number] = self.inputs.decode(_text(each, number + first))
        blank = torch.nan if like.is_floating_point() else 0
        rows = like.new_full((len(single), *like.shape[1:]), blank)
        if decoded:
            places, stored = torch.tensor([*decoded]), torch.stack([*decoded.values()])
            seen = ~self.unread(stored)
            if seen.any():
                kept = self.keep(stored[seen])
                rows = kept.new_full((len(single), *kept.shape[1:]), blank)
                rows[places[seen]] = kept
        return rows

    def unread(self, stored: Tensor) -> Tensor:
        """A mask ``[N]`` of the stored inputs ``[N, *shape]`` that the encoder cannot read."""
        find = getattr(self.inputs, "unread", None)
        found: Tensor = torch.zeros(len(stored), dtype=torch.bool) if find is None else find(stored)
        return found

    def decode(self, raw: Any, first: int = 0) -> Tensor:
        """The stored form of N raw inputs, ``[N, *shape]``.

        Args:
            raw: the inputs.
            first: what messages call the first of them.

        Raises:
            ValueError: when they are of another modality, or one is empty or not finite.
            UnreadableError: when one cannot be decoded (a ValueError too).
        """
        if self.inputs is None or (is_array(raw) and isinstance(self.inputs, FeatureInputs)):
            return self._array(raw)
        single = items(raw)
        if not single:
            raise InputError("There are no inputs: give at least one.")
        if self.modality == "image" and isinstance(raw, Tensor | np.ndarray):
            check_brightness(raw)
        if is_text(self.modality):
            single = [_text(each, number) for number, each in enumerate(single, first)]
        return decoded_tensor(single, self.inputs, "Input", first)

    def problems(self, raw: Sequence[Any], first: int = 0) -> dict[int, str]:
        """Errors of the unreadable ones among N raw inputs, by their numbers.

        Args:
            raw: the inputs.
            first: what messages call the first of them.
        """
        assert self.inputs is not None
        found: dict[int, str] = {}
        if is_text(self.modality):
            for number, each in enumerate(raw):
                try:
                    _text(each, number + first)
                except ValueError as error:
                    found[number] = str(error)
            return found
        rows = ((str(number), each) for number, each in enumerate(raw))
        for batch in decoded_batches(rows, self.inputs):
            found |= {int(i): str(each) for i, each in batch if isinstance(each, UnreadableError)}
        return found

    def keep(self, stored: Tensor) -> Tensor:
        """Encodes stored inputs ``[N, *shape]`` if there is an encoder."""
        if self.encoder is None:
            return stored.to(self.device)
        assert self._encoders is not None
        with self._encoders.one() as encoder:
            if self.inputs is None:
                return self._encoded(encoder, stored)
            if self.sample is None:
                sample = self.inputs.prepare(stored[:SAMPLED]).to(device_of(encoder))
                check_sees_each_by_itself(encoder, sample)
                self.sample = sample
            return embed_stored(
                encoder,
                self.inputs,
                stored,
                self.cache,
                embedded=lambda done: report("encoding examples", done, len(stored)),
            ).to(self.device)

    def prepare(self, kept: Tensor) -> Tensor:
        """The strategy's inputs, from what :meth:`keep` returned."""
        if self.encoder is None and self.inputs is not None:
            return self.inputs.prepare(kept)
        return kept

    def _array(self, raw: Any) -> Tensor:
        single = raw if is_array(raw) else items(raw)
        try:
            tensor = as_tensor(single)
        except TypeError as error:
            what_to_do = "Give an encoder for texts, images or sounds."
            if self.encoder is not None:
                name = type(self.encoder).__name__
                what_to_do = f"The encoder {name} comes without a way to decode others: {_SAY_HOW}"
            reason = str(error).partition(". ")[0]
            raise InputError(
                f"These inputs are not arrays of numbers of one shape ({reason}). {what_to_do}"
            ) from error
        if tensor.ndim < 2 or not len(tensor):
            raise InputError(
                f"Inputs [N, ...] are needed, one row each; the shape is {list(tensor.shape)}."
            )
        if self.encoder is None and not tensor.is_floating_point():
            tensor = tensor.double()
        return tensor

    def _encoded(self, encoder: nn.Module, arrays: Tensor) -> Tensor:
        """Vectors ``[N, D]`` of arrays that the encoder reads as they are, float32 at least."""
        dtype = _dtype_read(encoder, arrays.dtype)
        try:
            if self.sample is None:
                sample = arrays[:SAMPLED].to(self.device, dtype)
                check_sees_each_by_itself(encoder, sample)
                self.sample = sample
            batches = (part.to(self.device, dtype) for part in torch.split(arrays, ENCODED_AT_ONCE))
            parts = [vectors for vectors, _ in encode_batches(encoder, batches)]
        except UnfitInputsError as error:
            raise InputError(
                f"The encoder {type(encoder).__name__} cannot read inputs of shape "
                f"{list(arrays.shape)} and type {arrays.dtype}. Give arrays [N, ...] of the shape "
                f"that it reads; for other inputs {_SAY_HOW}"
            ) from error
        vectors = torch.cat(parts)
        return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


def _dtype_read(encoder: nn.Module, given: torch.dtype) -> torch.dtype:
    """The type in which an encoder reads numbers: its parameters' type, or at least a float type.

    Whole numbers stay whole if they can be token numbers.
    """
    if not given.is_floating_point:
        if any(isinstance(each, nn.Embedding | nn.EmbeddingBag) for each in encoder.modules()):
            return given
        given = torch.float32
    return next((p.dtype for p in encoder.parameters() if p.is_floating_point()), given)


def _check_several(raw: Any) -> None:
    """Refuses an array of one colour image, whose rows would be read as grey images."""
    shape = list(getattr(raw, "shape", ()))
    if len(shape) == 3 and shape[2] in (3, 4):
        raise InputError(
            f"An array of shape {shape} looks like one colour image; put it in a list. Several are "
            "[N, height, width, 3], and grey ones [N, height, width]."
        )


def _text(given: Any, number: int) -> str:
    """A text, or what is in a file of text."""
    text = read_text_file(given) if isinstance(given, Path) else given
    if not isinstance(text, str):
        raise InputError(
            f"Input {number} is a {type(text).__name__}; the encoder reads texts, so give strings."
        )
    if not text.strip():
        called = f"The file {given}" if isinstance(given, Path) else f"Input {number}"
        raise EmptyError(f"{called} is an empty text; leave it out or write something.")
    return text


def unread(kept: Tensor) -> Tensor:
    """A mask ``[N]`` of the rows ``[N, *shape]`` that stand for inputs that could not be read."""
    rows = kept.flatten(1)
    if kept.is_floating_point():
        return ~rows.isfinite().all(1)
    return (rows == 0).all(1)  # of tokens: padding alone


def content_numbers(stored: Tensor) -> Tensor:
    """An int64 per stored input, ``[N]``: equal for equal contents, almost surely only then."""
    rows = stored.detach().cpu().contiguous().flatten(1).numpy()
    numbers = [
        int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big", signed=True)
        for row in rows
    ]
    return torch.tensor(numbers, dtype=torch.int64)


def thumbnails(stored: Tensor) -> Tensor | None:
    """Small pictures uint8 ``[N, C, h, w]`` of stored images; None for anything else."""
    if stored.dtype != torch.uint8 or stored.ndim != 4:
        return None
    side = max(stored.shape[-2:])
    if side <= THUMBNAIL_SIDE:
        return stored
    small = nn.functional.interpolate(
        stored.float(), scale_factor=THUMBNAIL_SIDE / side, mode="area"
    )
    return small.round().byte()
