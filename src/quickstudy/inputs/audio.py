"""Sounds of any rate, length and number of channels to waveforms of one shape."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.deprecated import RenamedAttribute
from quickstudy.errors import InputError
from quickstudy.inputs.remarks import remark
from quickstudy.inputs.sound_frames import (
    SILENT,
    ArrayOfSound,
    Frames,
    loudest_part,
    read_mono,
    swing,
)
from quickstudy.inputs.unreadable import naming

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


@dataclass(frozen=True)
class AudioInputs:
    """Sounds as int16 ``[samples]``, read by networks as float32 between -1 and 1.

    Decoding takes the mean of the channels and resamples with a filter against aliasing. Of a
    longer sound the centre is kept; a shorter one stands at the beginning, with silence (zeros)
    behind it. Loudness stays as it is.

    If the result would be silent although the sound is not, another part is read, with a warning:
    the loudest channel where channels cancel each other out, as in stereo of opposite phase, and
    the loudest part of a longer sound whose centre is silent (no louder than -60 dB).

    Args:
        rate: samples per second.
        seconds: length of the window that is kept.

    Raises:
        ValueError: when a setting makes no sense.

    Example:
        >>> import numpy as np
        >>> from quickstudy.inputs import AudioInputs
        >>> inputs = AudioInputs(rate=8000, seconds=0.5)
        >>> tone = np.sin(np.arange(4000) / 5)
        >>> stored = inputs.decode((tone, 8000))
        >>> stored.shape, stored.dtype
        (torch.Size([4000]), torch.int16)
    """

    modality: ClassVar[str] = "audio"
    kind = RenamedAttribute("modality")

    rate: int = 16000
    seconds: float = 2.0

    def __post_init__(self) -> None:
        lowest, highest = RATES
        if not (lowest <= self.rate <= highest and self.rate == int(self.rate)):
            raise InputError(
                f"Sounds at a rate of {self.rate} were asked for; it is a whole number of samples "
                f"a second from {lowest} to {highest}."
            )
        if not 1 / self.rate <= self.seconds <= LONGEST_WINDOW_SECONDS:
            raise InputError(
                f"Sounds of {self.seconds} seconds were asked for; they must last at least a "
                f"sample and at most {LONGEST_WINDOW_SECONDS:g} seconds."
            )
        if self.samples > MOST_SAMPLES:
            raise InputError(
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
                ``[n, channels]`` at ``rate``; or a pair of an array and its own rate, or what the
                library ``datasets`` gives: ``{"array": ..., "sampling_rate": ...}``, ``{"bytes":
                ..., "path": ...}`` or a decoder. Numbers are
                floats between -1 and 1, clipped where they go a little beyond, or integers of 16
                or 32 bits. Of long files only the centre is read.

        Raises:
            UnreadableError: when it is not a sound that can be read; the file is named.
        """
        import soundfile  # what is missing there is not the fault of a sound

        with naming(raw, "sound", _words):
            raw = _of_library(raw)
            if isinstance(raw, bytes):
                with soundfile.SoundFile(io.BytesIO(raw)) as file:
                    wave = self._of(file, raw)
            elif isinstance(raw, str | Path):
                # Not opened by its name, as "-" is not a file to libsndfile.
                with Path(raw).open("rb") as stream, soundfile.SoundFile(stream) as file:
                    wave = self._of(file, raw)
            else:
                array, rate = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw, self.rate)
                wave = self._of(ArrayOfSound(_as_channels(array), rate), raw)
            if swing(wave) < 0.5 / FULL_SCALE:
                remark(raw, "sound", "it holds only silence")
        levels = np.clip(np.rint(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        stored = torch.zeros(self.samples, dtype=torch.int16)
        stored[: len(levels)] = torch.from_numpy(levels.astype(np.int16))
        return stored

    def prepare(self, stored: Tensor) -> Tensor:
        """Float32 ``[B, samples]`` in [-1, 1] from int16 of the same shape.

        Floats are already prepared and are returned unchanged.
        """
        if stored.is_floating_point():
            return stored
        return stored.to(torch.float32) / FULL_SCALE

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {"kind": self.modality} | asdict(self)

    def _of(self, file: Frames, raw: Any) -> Waveform:
        """The stored form of an opened sound; ``raw`` is the sound that remarks name."""
        _check_sizes(file.samplerate, file.channels, file.frames)
        rate = int(file.samplerate)
        window = self._window(rate, file.frames)
        wave = window.resampled(read_mono(file, window.start, window.stop, raw))
        if window.kept < math.ceil(file.frames * window.ratio) and swing(wave) < SILENT:
            start = loudest_part(file, math.ceil(window.kept / window.ratio), swing(wave))
            if start is not None:
                remark(raw, "sound", "its centre is silent, so its loudest part is read")
                window = self._window(rate, file.frames, start)
                wave = window.resampled(read_mono(file, window.start, window.stop, raw))
        return wave

    def _window(self, rate: int, frames: int, start: int | None = None) -> _Window:
        """The part of a sound, of so many frames at a rate, of which the kept samples are made.

        They are those at the centre, or those from the frame ``start`` on. It begins where a sample
        of the new rate falls on one of the old, and has room for the filter, so that the samples
        are those that resampling the whole sound would give.
        """
        ratio = Fraction(self.rate, rate).limit_denominator(FINEST_RATIO)
        length = math.ceil(frames * ratio)
        kept = min(length, self.samples)
        first = (length - kept) // 2
        if start is not None:
            first = min(math.floor(start * ratio), length - kept)
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


def _as_channels(raw: Any) -> NDArray[Any]:
    """Floats ``[channels, n]`` from an array or tensor."""
    if isinstance(raw, Tensor):
        raw = raw.detach().cpu()
        raw = (raw.float() if raw.dtype == torch.bfloat16 else raw).numpy()
    if not isinstance(raw, np.ndarray):
        raise InputError(
            "a path, bytes, an array or a pair of an array and its rate is needed, not "
            f"{type(raw).__name__}"
        )
    if raw.ndim not in (1, 2) or not raw.size:
        raise InputError(f"its shape is {list(raw.shape)}; a sound is [n] or [channels, n]")
    if raw.ndim == 2 and raw.shape[0] > MOST_CHANNELS >= raw.shape[1]:
        raw = raw.T  # [n, channels], as soundfile reads
    if raw.dtype in (np.int16, np.int32):
        raw = raw / np.float32(-float(np.iinfo(raw.dtype).min))
    if not np.issubdtype(raw.dtype, np.floating):
        raise InputError(
            f"its values are {raw.dtype}; floats or integers of 16 or 32 bits are needed"
        )
    return np.atleast_2d(raw)


_RATES_NAMED = ("sampling_rate", "sample_rate", "rate")


def is_recording(raw: Any) -> bool:
    """Whether it is a sound of the library ``datasets``: a dictionary or a decoder."""
    if isinstance(raw, Mapping):
        return "array" in raw or ("bytes" in raw and "path" in raw)
    return hasattr(raw, "get_all_samples")


def _of_library(raw: Any) -> Any:
    """A sound of the library ``datasets`` as a pair of samples and rate, a path or bytes."""
    if hasattr(raw, "get_all_samples"):  # of torchcodec
        samples = raw.get_all_samples()
        return samples.data, samples.sample_rate
    if not isinstance(raw, Mapping):
        return raw
    rate = next((raw[name] for name in _RATES_NAMED if raw.get(name) is not None), None)
    if raw.get("array") is not None and rate is not None:
        array = raw["array"]
        return (np.asarray(array) if isinstance(array, list | tuple) else array), rate
    if isinstance(raw.get("bytes"), bytes):
        return raw["bytes"]
    if raw.get("path") and raw.get("array") is None:
        return str(raw["path"])
    raise InputError(
        f"it is a dictionary with the keys {', '.join(map(str, raw)) or 'none'}; 'array' and "
        "'sampling_rate' are needed, or 'bytes' or 'path' of a file"
    )


def _check_sizes(rate: Any, channels: int, frames: int) -> None:
    """Refuses what no sound has, before any of it is decoded."""
    lowest, highest = RATES
    if not (
        isinstance(rate, int | float | np.integer | np.floating)
        and lowest <= rate <= highest
        and rate == int(rate)
    ):
        raise InputError(
            f"its rate is {rate}; a whole number of samples a second from {lowest} to {highest} is "
            "expected"
        )
    if channels > MOST_CHANNELS:
        raise InputError(
            f"it has {channels} channels of {frames} samples; at most {MOST_CHANNELS} are read, "
            "and the channels come first"
        )
    if not frames:
        raise InputError("it is empty")
    if frames > LONGEST_SECONDS * rate:
        raise InputError(
            f"its header names {frames} samples, more than a week, or none as in streamed FLAC; "
            "convert it to a file that says its length"
        )


def _words(error: Exception) -> object:
    """Libsndfile's own words, without the address of an object in memory."""
    words = getattr(error, "error_string", None)
    return error if words is None else f"it is damaged or no sound ({words})"
