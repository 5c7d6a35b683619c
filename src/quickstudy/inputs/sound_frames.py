"""Reading parts of a sound as one channel, and finding the part that is not silent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.inputs.remarks import remark

Waveform = NDArray[np.float32]

LOUDEST = 128.0
"""Floats beyond this are not just a sound between -1 and 1 that is a little too loud."""

MP3_LEAD = 10 * 1152
"""Frames that are decoded and dropped, because a block's data begin up to 511 bytes before it."""

SILENT = 2.0**-10
"""A smaller amplitude counts as silent: -60 dB, below the noise of most recordings."""

LOUDER = 10.0
"""How many times louder than a silent centre a part must be to be read in its place."""

CANCELLED = 0.1
"""The mean of channels that have nothing to do with each other is as loud as their power says. One
that has less than this of it comes from channels that cancel each other out."""

_READ_AT_ONCE, _SEARCHED_AT_ONCE = 2**20, 2**17
_STEPS_PER_PART = 8


class Frames(Protocol):
    """An opened sound, as soundfile's ``SoundFile``."""

    @property
    def samplerate(self) -> Any:
        """Frames per second."""
        ...

    @property
    def channels(self) -> int:
        """How many there are."""
        ...

    @property
    def frames(self) -> int:
        """How many there are."""
        ...

    @property
    def format(self) -> str:
        """The file's format, as libsndfile names it."""
        ...

    def seek(self, frames: int) -> int:
        """Goes to a frame."""
        ...

    def read(self, frames: int, dtype: str, always_2d: bool) -> NDArray[Any]:
        """The next frames, ``[n, channels]``."""
        ...


@dataclass
class ArrayOfSound:
    """An array ``[channels, n]`` of floats as an opened sound."""

    array: NDArray[Any]
    samplerate: Any
    place: int = 0
    format: str = "array"

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.array)

    @property
    def frames(self) -> int:
        """How many there are."""
        return int(self.array.shape[1])

    def seek(self, frames: int) -> int:
        """Goes to a frame."""
        self.place = frames
        return frames

    def read(self, frames: int, dtype: str, always_2d: bool) -> NDArray[Any]:
        """The next frames, ``[n, channels]``, in the array's own type."""
        block = self.array[:, self.place : self.place + frames].T
        self.place += len(block)
        return block


def read_mono(file: Frames, start: int, stop: int, raw: Any) -> Waveform:
    """The frames from ``start`` to ``stop`` as one channel.

    Args:
        file: the sound.
        start: the first frame.
        stop: the frame after the last one.
        raw: the sound that remarks name.

    Returns:
        The mean of the channels, or the loudest channel where they cancel each other out.

    Raises:
        ValueError: the sound ends before ``start``, or has values that are impossible for a sound.
    """
    pieces: list[Waveform] = []
    power_of_channels, power_of_mean = np.zeros(file.channels), 0.0
    for block in _blocks(file, start, stop):
        mean = _mono(block)
        pieces.append(mean)
        if file.channels > 1:
            power_of_channels += np.square(block, dtype=np.float64).sum(0)
            power_of_mean += float(np.square(mean, dtype=np.float64).sum())
    # The mean's power if the channels were uncorrelated.
    unrelated = power_of_channels.sum() / file.channels**2
    if file.channels > 1 and power_of_mean < CANCELLED**2 * unrelated:
        loudest = int(power_of_channels.argmax())
        remark(raw, "sound", "the channels cancel each other out, so only the loudest one is read")
        channel = slice(loudest, loudest + 1)
        pieces = [_mono(block[:, channel]) for block in _blocks(file, start, stop)]
    return np.concatenate(pieces)


def _blocks(
    file: Frames, start: int, stop: int, most: int = _READ_AT_ONCE
) -> Iterator[NDArray[Any]]:
    """The frames from ``start`` to ``stop``, ``[n, channels]``, at most ``most`` values at once."""
    place = max(0, start - MP3_LEAD) if file.format == "MP3" else start
    file.seek(place)
    at_once = max(1, most // file.channels)
    while place < stop:
        block = file.read(min(at_once, stop - place), dtype="float32", always_2d=True)
        if not len(block):  # a damaged file, or the header of an MP3 guessed its length
            break
        lead = max(0, start - place)
        place += len(block)
        if len(block) > lead:
            yield block[lead:]
    if place <= start:
        raise InputError(
            f"it ends before frame {start}, though its header says that it has {file.frames}"
        )


def _mono(frames: NDArray[Any]) -> Waveform:
    """The mean ``[n]`` of frames ``[n, channels]`` of floats."""
    with np.errstate(all="ignore"):  # values too large for float32 are reported below
        wave: Waveform = frames.mean(1, dtype=np.float32)
    peak = np.abs(wave).max(initial=0)
    if not peak <= LOUDEST:
        raise InputError(
            "it holds numbers that are not finite"
            if not np.isfinite(peak)
            else (
                f"its values reach {peak:g}, but floats must lie between -1 and 1; give integers "
                "as integers, or divide the values by the largest"
            )
        )
    return wave


def swing(wave: Waveform) -> float:
    """The amplitude of a wave; a constant cannot be heard, whatever its value."""
    return float(wave.max() - wave.min()) / 2 if len(wave) else 0.0


def loudest_part(file: Frames, frames: int, silent: float) -> int | None:
    """The first frame of the part of a sound, ``frames`` long, that has the most power.

    Args:
        file: the sound, all of which is read.
        frames: how long the part is; it begins at a multiple of an eighth of that.
        silent: the swing of the centre.

    Returns:
        None where no part is much louder than the centre.
    """
    step = max(1, frames // _STEPS_PER_PART)
    powers, loudest, left = [], 0.0, np.empty((0, file.channels), np.float32)
    for block in _blocks(file, 0, file.frames, _SEARCHED_AT_ONCE):
        together = np.concatenate([left, block])
        whole = len(together) // step * step
        # The loudest channel counts, as the mean of several may cancel out.
        steps = together[:whole].reshape(-1, step, file.channels)
        if whole:
            loudest = max(loudest, float((steps.max(1) - steps.min(1)).max()) / 2)
            powers.append(np.square(steps - steps.mean(1, keepdims=True)).sum(1).max(-1))
        left = together[whole:]
    if len(left):
        loudest = max(loudest, float((left.max(0) - left.min(0)).max()) / 2)
        powers.append(np.square(left - left.mean(0)).sum(0).max(keepdims=True))
    if loudest < max(LOUDER * silent, SILENT):
        return None
    sums = np.concatenate([[0.0], np.concatenate(powers).astype(np.float64).cumsum()])
    several = min(_STEPS_PER_PART, len(sums) - 1)
    return int((sums[several:] - sums[:-several]).argmax()) * step
