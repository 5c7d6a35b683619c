"""Sounds of any rate, length and number of channels to waveforms of one shape."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.inputs.unreadable import naming

if TYPE_CHECKING:
    from soundfile import SoundFile

Waveform = NDArray[np.float32]

RATES = (100, 1_000_000)
"""Samples a second; a header that names fewer or more is damaged."""

MOST_CHANNELS = 64
LONGEST_SECONDS = 7 * 24 * 3600.0
"""Of a file. Streamed FLAC files do not say how long they are, which reads as far more."""

LONGEST_WINDOW_SECONDS = 3600.0
MOST_SAMPLES = 2**28
"""Of a sound as it is stored: half a gigabyte."""

FINEST_RATIO = 10_000
"""Rates in the ratio of larger numbers are taken in the nearest one: a filter has 20 times as many
weights."""

FULL_SCALE = 2**15
LOUDEST = 128.0
"""Floats beyond this are no sound between -1 and 1 that came out a little too loud."""

MP3_LEAD = 10 * 1152
"""Frames that are decoded and left out, as the data of a block begin up to 511 bytes before it."""

_READ_AT_ONCE = 2**20


@dataclass(frozen=True)
class AudioInputs:
    """Sounds as int16 ``[samples]``, read by networks as float32 between -1 and 1.

    Decoding takes the mean of the channels and resamples with a filter against aliasing. Of a
    longer sound the centre is kept; a shorter one stands at the beginning, with silence (zeros)
    behind it. Loudness stays as it is.

    Args:
        rate: samples a second.
        seconds: kept of a sound.

    Raises:
        ValueError: when a setting makes no sense.
    """

    kind: ClassVar[str] = "audio"

    rate: int = 16000
    seconds: float = 2.0

    def __post_init__(self) -> None:
        lowest, highest = RATES
        if not (lowest <= self.rate <= highest and self.rate == int(self.rate)):
            raise ValueError(
                f"Sounds at a rate of {self.rate} were asked for; it is a whole number of samples "
                f"a second from {lowest} to {highest}."
            )
        if not 1 / self.rate <= self.seconds <= LONGEST_WINDOW_SECONDS:
            raise ValueError(
                f"Sounds of {self.seconds} seconds were asked for; they must last at least a "
                f"sample and at most {LONGEST_WINDOW_SECONDS:g} seconds."
            )
        if self.samples > MOST_SAMPLES:
            raise ValueError(
                f"Sounds of {self.samples} samples were asked for; they may have {MOST_SAMPLES}."
            )

    @property
    def samples(self) -> int:
        """How many samples are kept of a sound."""
        return round(self.rate * self.seconds)

    def decode(self, raw: Any) -> Tensor:
        """One sound as int16 ``[samples]``.

        Args:
            raw: a path or the bytes of a file (WAV, FLAC, Ogg, MP3 and what else libsndfile reads);
                an array or tensor ``[n]``, ``[channels, n]`` or, where that is clear,
                ``[n, channels]`` at ``rate``; or a pair of an array and its own rate. Numbers are
                floats between -1 and 1, clipped where they go a little beyond, or integers of 16
                or 32 bits. Of long files only the centre is read.

        Raises:
            UnreadableError: when it is not a sound that can be read; the file is named.
        """
        import soundfile  # what is missing there is not the fault of a sound

        with naming(raw, "sound", _words):
            if isinstance(raw, bytes):
                wave = self._of_file(soundfile.SoundFile(io.BytesIO(raw)))
            elif isinstance(raw, str | Path):
                # Not opened by its name, as "-" is not a file to libsndfile.
                with Path(raw).open("rb") as stream:
                    wave = self._of_file(soundfile.SoundFile(stream))
            else:
                array, rate = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, self.rate)
                channels = _as_channels(array)
                _check_sizes(rate, *channels.shape)
                window = self._window(int(rate), channels.shape[1])
                wave = window.resampled(_mono(channels[:, window.start : window.stop].T))
        levels = np.clip(np.rint(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        stored = torch.zeros(self.samples, dtype=torch.int16)
        stored[: len(levels)] = torch.from_numpy(levels.astype(np.int16))
        return stored

    def prepare(self, stored: Tensor) -> Tensor:
        """Float32 ``[B, samples]`` in [-1, 1] from int16 of the same shape."""
        return stored.to(torch.float32) / FULL_SCALE

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {"kind": self.kind} | asdict(self)

    def _of_file(self, file: SoundFile) -> Waveform:
        with file:
            _check_sizes(file.samplerate, file.channels, file.frames)
            window = self._window(file.samplerate, file.frames)
            return window.resampled(_read(file, window.start, window.stop))

    def _window(self, rate: int, frames: int) -> _Window:
        """The part of a sound, of so many frames at a rate, of which the centre is made.

        It begins where a sample of the new rate falls on one of the old, and has room for the
        filter, so that the samples are those that resampling the whole sound would give.
        """
        ratio = Fraction(self.rate, rate).limit_denominator(FINEST_RATIO)
        length = math.ceil(frames * ratio)
        kept = min(length, self.samples)
        first = (length - kept) // 2
        # scipy's filter reaches over 10 samples of the slower rate, each way.
        reach = 0 if ratio == 1 else math.ceil(10 * max(Fraction(1), 1 / ratio)) + 1
        steps = max(0, math.floor(first / ratio) - reach) // ratio.denominator
        return _Window(
            ratio,
            start=steps * ratio.denominator,
            stop=min(frames, math.ceil((first + kept) / ratio) + reach),
            skipped=first - steps * ratio.numerator,
            kept=kept,
        )


@dataclass(frozen=True)
class _Window:
    """A part of a sound, and what is kept of it.

    Args:
        ratio: of the new rate to the old.
        start: the first frame that is read.
        stop: the frame after the last one.
        skipped: samples at the new rate that stand before what is kept.
        kept: samples at the new rate.
    """

    ratio: Fraction
    start: int
    stop: int
    skipped: int
    kept: int

    def resampled(self, wave: Waveform) -> Waveform:
        """The samples that are kept, of the frames from ``start`` to ``stop``."""
        if self.ratio != 1:
            from scipy.signal import resample_poly

            wave = resample_poly(wave, self.ratio.numerator, self.ratio.denominator)
        return wave[self.skipped : self.skipped + self.kept]


def _read(file: SoundFile, start: int, stop: int) -> Waveform:
    """The mean of the channels from frame ``start`` to ``stop``, in pieces of bounded size."""
    place = max(0, start - MP3_LEAD) if file.format == "MP3" else start
    if place:
        file.seek(place)
    first = place
    pieces = []
    at_once = max(1, _READ_AT_ONCE // file.channels)
    while place < stop:
        block = file.read(min(at_once, stop - place), dtype="float32", always_2d=True)
        if not len(block):  # a damaged file, or the header of an MP3 guessed its length
            break
        pieces.append(_mono(block))
        place += len(block)
    if place <= start:
        raise ValueError(
            f"it ends before frame {start}, though its header says that it has {file.frames}"
        )
    return np.concatenate(pieces)[start - first :]


def _mono(frames: NDArray[Any]) -> Waveform:
    """The mean ``[n]`` of frames ``[n, channels]`` of floats."""
    with np.errstate(all="ignore"):  # what is too large for float32 is told below
        wave: Waveform = frames.mean(1, dtype=np.float32)
    peak = np.abs(wave).max(initial=0)
    if not peak <= LOUDEST:
        raise ValueError(
            "it holds numbers that are not finite"
            if not np.isfinite(peak)
            else f"its values reach {peak:g}, but floats must lie between -1 and 1; give integers "
            "as integers, or divide them by their largest"
        )
    return wave


def _as_channels(raw: Any) -> NDArray[Any]:
    """Floats ``[channels, n]`` from an array or tensor."""
    if isinstance(raw, Tensor):
        raw = raw.detach().cpu()
        raw = (raw.float() if raw.dtype == torch.bfloat16 else raw).numpy()
    if not isinstance(raw, np.ndarray):
        raise ValueError(
            "a path, bytes, an array or a pair of an array and its rate is needed, not "
            f"{type(raw).__name__}"
        )
    if raw.ndim not in (1, 2) or not raw.size:
        raise ValueError(f"its shape is {list(raw.shape)}; a sound is [n] or [channels, n]")
    if raw.ndim == 2 and raw.shape[0] > MOST_CHANNELS >= raw.shape[1]:
        raw = raw.T  # [n, channels], as soundfile reads
    if raw.dtype in (np.int16, np.int32):
        raw = raw / np.float32(-float(np.iinfo(raw.dtype).min))
    if not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(
            f"its values are {raw.dtype}; floats or integers of 16 or 32 bits are needed"
        )
    return np.atleast_2d(raw)


def _check_sizes(rate: Any, channels: int, frames: int) -> None:
    """Refuses what no sound has, before any of it is decoded."""
    lowest, highest = RATES
    if not (
        isinstance(rate, int | float | np.integer | np.floating)
        and lowest <= rate <= highest
        and rate == int(rate)
    ):
        raise ValueError(
            f"its rate is {rate}; a whole number of samples a second from {lowest} to {highest} is "
            "expected"
        )
    if channels > MOST_CHANNELS:
        raise ValueError(
            f"it has {channels} channels of {frames} samples; at most {MOST_CHANNELS} are read, "
            "and the channels come first"
        )
    if not frames:
        raise ValueError("it is empty")
    if frames > LONGEST_SECONDS * rate:
        raise ValueError(
            f"its header names {frames} samples, more than a week, or none as in streamed FLAC; "
            "convert it to a file that says its length"
        )


def _words(error: Exception) -> object:
    """Libsndfile's own words, without the address of an object in memory."""
    words = getattr(error, "error_string", None)
    return error if words is None else f"it is damaged or no sound ({words})"
