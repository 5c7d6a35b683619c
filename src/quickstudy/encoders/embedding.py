"""Raw items to features, through the cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.compute.devices import device_of
from quickstudy.compute.encoding import check_finite, encode_batches
from quickstudy.datasets.decoded.decoding import decoded_batches
from quickstudy.encoders.feature_cache import FeatureCache, feed
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs
from quickstudy.inputs.modalities import is_text

_DECODED_AT_ONCE = 256
_HELD_AT_ONCE, _HELD_BYTES = 2048, 64 * 2**20
_KEPT_EVERY_SECONDS = 1.0


def embed(
    encoder: nn.Module,
    inputs: Inputs,
    raws: Sequence[Any],
    cache: FeatureCache | None = None,
    batch_size: int = 32,
    embedded: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The features of raw items; only a bounded number of them is decoded at any time.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; left as it was.
        inputs: decodes and prepares what the encoder reads.
        raws: n items that ``inputs.decode`` takes.
        cache: the cache of this encoder with these inputs; features in it are not computed again.
        batch_size: number of inputs that are encoded at once.
        embedded: called with (number of items that have features so far, n).

    Returns:
        Float32 ``[n, D]`` on the CPU, in the order of ``raws``.

    Raises:
        UnreadableError: one of them cannot be decoded.
        ValueError: there are none.
    """
    if len(raws) == 0:
        raise InputError("There is nothing to embed: no inputs were given.")
    parts: list[Tensor] = []
    done = 0
    for stored in _decoded(inputs, raws):

        def advance(count: int, before: int = done) -> None:
            if embedded is not None:
                embedded(before + count, len(raws))

        parts.append(embed_stored(encoder, inputs, stored, cache, batch_size, advance))
        done += len(stored)
    return torch.cat(parts)


def embed_stored(
    encoder: nn.Module,
    inputs: Inputs,
    stored: Sequence[Tensor] | Tensor,
    cache: FeatureCache | None = None,
    batch_size: int = 32,
    embedded: Callable[[int], None] | None = None,
) -> Tensor:
    """The features ``[n, D]`` of n inputs ``[*shape]`` that are already decoded.

    Each distinct input is encoded once. Texts of similar length share a batch, to reduce padding.
    ``embedded`` is called with the number of inputs done so far; otherwise like :func:`embed`.
    """
    known = cache.get(stored) if cache is not None else [None] * len(stored)
    by_content: dict[bytes, list[int]] = {}
    for position, each in enumerate(stored):
        if known[position] is None:
            digest = hashlib.blake2b(digest_size=20)
            feed(digest, each)
            by_content.setdefault(digest.digest(), []).append(position)
    places = list(by_content.values())
    if is_text(inputs.modality):
        places.sort(key=lambda same: int((stored[same[0]] > 0).sum()))
    done = len(stored) - sum(map(len, places))
    if embedded is not None and done:
        embedded(done)
    unkept: list[tuple[Tensor, Tensor]] = []
    last = time.monotonic()

    def keep() -> None:
        if cache is not None and unkept:
            cache.put([each for each, _ in unkept], torch.stack([vector for _, vector in unkept]))
            unkept.clear()

    parts = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    device = device_of(encoder)
    prepared = (
        inputs.prepare(torch.stack([stored[same[0]] for same in some])).to(device) for some in parts
    )
    for some, (found, _) in zip(parts, encode_batches(encoder, prepared), strict=True):
        check_finite(encoder, found)
        vectors = found.to("cpu", torch.float32)
        for same, vector in zip(some, vectors, strict=True):
            unkept.append((stored[same[0]], vector))
            for position in same:
                known[position] = vector
        done += sum(map(len, some))
        if embedded is not None:
            embedded(done)
        if time.monotonic() - last > _KEPT_EVERY_SECONDS:  # so that Ctrl-C costs little
            keep()
            last = time.monotonic()
    keep()
    return torch.stack([vector for vector in known if vector is not None])


def _decoded(inputs: Inputs, raws: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Yields decoded inputs in order, in batches that fit into memory."""
    held: list[Tensor] = []
    for start in range(0, len(raws), _DECODED_AT_ONCE):
        rows = [("", raws[i]) for i in range(start, min(start + _DECODED_AT_ONCE, len(raws)))]
        for batch in decoded_batches(rows, inputs):
            for _, result in batch:
                if not isinstance(result, Tensor):
                    raise result
                held.append(result)
        if len(held) >= _HELD_AT_ONCE or len(held) * held[0].nbytes >= _HELD_BYTES:
            yield held
            held = []
    if held:
        yield held
