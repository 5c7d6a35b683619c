"""From a waveform to a picture of its frequencies over time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError

SILENCE = 1e-10
"""About the power of the noise that rounding to 16 bits makes, (2⁻¹⁵)² / 12."""


class LogMel(nn.Module):
    """Logarithms of the power in bands of frequency, frame by frame, normalised for each sound.

        P[t, k] = |Σ_n w[n] x[t hop + n] exp(−2πi k n / N)|² / Σ_n w[n]²
        Q[t, m] = Σ_k P[t, k] H[k, m]
        L[t, m] = log(Q[t, m] + floor mean(Q) + 10⁻¹⁰),    y = (L − mean(L)) / √(var(L) + 10⁻⁵)

    with w the Hann window and H the filters of :func:`mel_filters`. Means and variance are one
    number each, over all bands and frames of a sound: neither its loudness matters nor sounds
    that are much softer than the rest, such as a microphone's noise. The frames of silence (zeros)
    that ``AudioInputs`` appends to short sounds do not count and become 0 (the mean). Computed at
    least in float32, even under autocast.

    Args:
        rate: samples per second of the waveforms.
        window_seconds: length of a frame.
        hop_seconds: time between the beginnings of two frames.
        mels: number of bands.
        lowest: the frequency in Hz where the first band begins.
        highest: where the last band ends; None for half the rate.
        floor: the part of a sound's mean power that is added to all powers.

    Raises:
        ValueError: when a setting makes no sense, or a band is so narrow that no bin of the
            spectrum lies in it.
    """

    filters: Tensor
    taper: Tensor

    def __init__(
        self,
        rate: int = 16000,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        mels: int = 64,
        lowest: float = 20.0,
        highest: float | None = None,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        self.window, self.hop = round(rate * window_seconds), round(rate * hop_seconds)
        if min(self.window - 1, self.hop) < 1 or floor < 0:
            raise InputError(
                f"Frames of {window_seconds} s every {hop_seconds} s at a rate of {rate} are "
                f"{self.window} samples every {self.hop}, and the floor is {floor}; a frame needs "
                "2 samples, a step one, and the floor must not be below 0."
            )
        self.rate = rate
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.mels = mels
        self.lowest = lowest
        self.highest = highest
        self.floor = floor
        self.points = 2 ** math.ceil(math.log2(self.window))  # N, of the Fourier transform
        filters = mel_filters(rate, self.points, mels, lowest, highest)
        taper = torch.hann_window(self.window, dtype=torch.float64)
        taper = F.pad(taper / taper.square().sum().sqrt(), (0, self.points - self.window))
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("taper", taper.float(), persistent=False)

    def frames(self, samples: int) -> int:
        """How many frames lie wholly in a waveform; of one that is shorter than a frame, one."""
        return 1 + max(0, samples - self.window) // self.hop

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, 1, mels, frames]`` of waveforms ``[B, samples]``."""
        return self.normalized(x)[0]

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The maps, and which frames are part of a sound: bool ``[B, frames]``."""
        if x.ndim != 2 or not x.is_floating_point() or not x.shape[1]:
            raise InputError(
                "Waveforms [B, samples] of floats were expected, as AudioInputs prepares them, but "
                f"{x.dtype} of shape {list(x.shape)} was given."
            )
        with torch.autocast(x.device.type, enabled=False):
            powers = self.powers(x)
            # Frames with a sound in them or in a later one.
            present = (powers.sum(2) > 0).flip(1).cumsum(1).flip(1) > 0
            weight = present[:, :, None].to(powers.dtype)
            count = (weight.sum((1, 2), keepdim=True) * self.mels).clamp(min=1)

            def mean(values: Tensor) -> Tensor:
                return (values * weight).sum((1, 2), keepdim=True) / count

            levels = torch.log(powers + self.floor * mean(powers) + SILENCE)
            centred = (levels - mean(levels)) * weight
            maps = centred * (mean(centred.square()) + 1e-5).rsqrt()
        return maps.mT[:, None], present

    def powers(self, x: Tensor) -> Tensor:
        """Q, the power in each band of each frame: ``[B, frames, mels]``."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        # With the zeros that fill a frame up to the transform's length.
        missing = max(0, self.window - x.shape[1]) + self.points - self.window
        frames = F.pad(x, (0, missing)).unfold(1, self.points, self.hop)
        spectrum = torch.fft.rfft(frames * self.taper)
        power = spectrum.real.square() + spectrum.imag.square()  # |z| has no gradient at 0
        bands: Tensor = power @ self.filters.to(power.dtype)
        return bands


def mel_filters(
    rate: int, points: int, mels: int, lowest: float = 0.0, highest: float | None = None
) -> Tensor:
    """Overlapping triangles, equally wide on the mel scale: float64 ``[points // 2 + 1, mels]``.

        mel(f) = 2595 log₁₀(1 + f / 700)

    Each rises from the middle of the one before to 1 at its own middle, and falls to the middle of
    the next, linearly in mel: at each frequency between the first middle and the last, they sum to
    1. Young et al., "The HTK Book" (for version 3.4), section 5.4; the scale is O'Shaughnessy's
    ("Speech Communication: Human and Machine", 1987).

    Args:
        rate: samples a second.
        points: of the Fourier transform; its bins are rate / points apart.
        mels: how many filters.
        lowest: where the first begins, in Hz.
        highest: where the last ends, in Hz; None for half the rate.

    Raises:
        ValueError: the frequencies are not in order, or no bin lies in one of the filters.
    """
    highest = rate / 2 if highest is None else highest
    if not (0 <= lowest < highest <= rate / 2 and mels >= 1):
        raise InputError(
            f"{mels} bands from {lowest} to {highest} Hz were asked for; there must be one, and "
            f"frequencies that rise from 0 to at most {rate / 2:g}, half the rate."
        )

    def mel(frequency: Tensor) -> Tensor:
        return 2595 * torch.log10(1 + frequency / 700)

    bins = mel(torch.linspace(0, rate / 2, points // 2 + 1, dtype=torch.float64))
    first, last = mel(torch.tensor([lowest, highest], dtype=torch.float64)).tolist()
    width = (last - first) / (mels + 1)
    middles = first + width * torch.arange(1, mels + 1, dtype=torch.float64)
    filters: Tensor = (1 - (bins[:, None] - middles).abs() / width).clamp(min=0)
    if not filters.sum(0).all():
        raise InputError(
            f"{mels} bands from {lowest:g} to {highest:g} Hz are so narrow that some hold none of "
            f"the {points // 2 + 1} frequencies of the spectrum; take fewer bands or longer frames."
        )
    return filters
