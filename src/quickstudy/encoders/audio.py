"""Small networks on log-mels, trained here: for words, calls, machines and other sounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.conv4 import Conv4
from quickstudy.encoders.encoder import Encoder, Modulation
from quickstudy.encoders.log_mel import LogMel
from quickstudy.encoders.normalization import LayerNorm, Normalization
from quickstudy.encoders.sequences import RecurrentLayer, mean_and_maximum
from quickstudy.errors import InputError


class AudioCNN(Encoder):
    """:class:`Conv4` on log-mels; the mean and maximum of its maps over time.

    The bands of the last maps stay separate, because a sound's frequency identifies it. Mean and
    maximum leave out the silence (zeros) that ``AudioInputs`` appends to a sound.

    Args:
        input_shape: (samples,), the length of a waveform; inputs of other lengths work too.
        rate: samples per second, as in ``AudioInputs``.
        channels: number of channels of every block.
        blocks: number of blocks; each halves bands and frames.
        normalization: as in :class:`Conv4`.
        mels: number of frequency bands, as in :class:`LogMel`.
        window_seconds: length of a frame, as in :class:`LogMel`.
        hop_seconds: time between frames, as in :class:`LogMel`.
        widest_band: most bands that training masks at once (:class:`SpecAugment`); 0 for none.
        longest_gap: most frames that training masks at once; 0 for none.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (32000,),
        rate: int = 16000,
        channels: int = 64,
        blocks: int = 4,
        normalization: Normalization = "batch",
        mels: int = 64,
        window_seconds: float = 0.040,
        hop_seconds: float = 0.020,
        widest_band: int = 0,
        longest_gap: int = 0,
    ) -> None:
        super().__init__()
        samples = _samples(input_shape, "AudioCNN")
        self.input_shape = (samples,)
        self.rate = rate
        self.channels = channels
        self.blocks = blocks
        self.normalization = normalization
        self.mels = mels
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.widest_band = widest_band
        self.longest_gap = longest_gap
        self.log_mel = LogMel(rate, window_seconds, hop_seconds, mels)
        self.augment = SpecAugment(widest_band, longest_gap)
        frames = max(self.log_mel.frames(samples), 2**blocks)
        self.network = Conv4((1, mels, frames), channels, "max", normalization, blocks)
        self.map_shape = self.network.map_shape
        self.modulated_channels = self.network.modulated_channels
        self.out_features = 2 * channels * self.map_shape[1]

    def forward(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """Vectors ``[B, out_features]`` of waveforms ``[B, samples]``."""
        maps, present = self._maps(x, modulation)
        # A column covers 2^blocks frames, and belongs to the sound if its first frame does.
        present = present[:, :: 2**self.blocks][:, : maps.shape[3]]
        columns = maps.permute(0, 3, 1, 2).flatten(2)
        return mean_and_maximum(columns * present[..., None], present)

    def maps(self, x: Tensor, modulation: Modulation | None = None) -> Tensor:
        """The last block's maps ``[B, channels, bands, columns of frames]``."""
        return self._maps(x, modulation)[0]

    def _maps(self, x: Tensor, modulation: Modulation | None) -> tuple[Tensor, Tensor]:
        bands, present = self.log_mel.normalized(x)
        bands = self.augment(bands)
        bands = F.pad(bands, (0, max(0, 2**self.blocks - bands.shape[3])))
        return self.network.maps(bands, modulation), present


class AudioGRU(Encoder):
    """Gated recurrent units that read log-mels from both ends; their mean and maximum over time.

    A few frames are read together, because neighbours are similar (Sak et al., "Fast and Accurate
    Recurrent Neural Network Acoustic Models for Speech Recognition", Interspeech 2015). The layers
    equal those of :class:`TextEncoder`: x + GRU(normalise(x)). The silence (zeros) that
    ``AudioInputs`` appends to a sound is not read.

    Args:
        input_shape: (samples,), the length of a waveform; inputs of other lengths work too.
        rate: samples per second, as in ``AudioInputs``.
        width: length of the vectors inside; even.
        layers: number of recurrent layers.
        frames_at_once: number of frames that are read together.
        dropout: fraction of each layer's numbers that training drops.
        mels: number of frequency bands, as in :class:`LogMel`.
        window_seconds: length of a frame, as in :class:`LogMel`.
        hop_seconds: time between frames, as in :class:`LogMel`.
        widest_band: most bands that training masks at once (:class:`SpecAugment`); 0 for none.
        longest_gap: most frames that training masks at once; 0 for none.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (32000,),
        rate: int = 16000,
        width: int = 128,
        layers: int = 2,
        frames_at_once: int = 4,
        dropout: float = 0.0,
        mels: int = 64,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        widest_band: int = 0,
        longest_gap: int = 0,
    ) -> None:
        super().__init__()
        self.input_shape = (_samples(input_shape, "AudioGRU"),)
        if min(width, layers, frames_at_once) < 1:
            raise InputError(
                f"AudioGRU was asked for {layers} layers of width {width} that read "
                f"{frames_at_once} frames at once; each must be at least 1."
            )
        self.rate = rate
        self.width = width
        self.layers = layers
        self.frames_at_once = frames_at_once
        self.dropout = dropout
        self.mels = mels
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.widest_band = widest_band
        self.longest_gap = longest_gap
        self.out_features = 2 * width
        self.log_mel = LogMel(rate, window_seconds, hop_seconds, mels)
        self.augment = SpecAugment(widest_band, longest_gap)
        self.reading = nn.Linear(frames_at_once * mels, width)
        self.recurrent = nn.ModuleList(RecurrentLayer(width, dropout) for _ in range(layers))
        self.norm = LayerNorm(width)
        # Vectors of length 1: longer ones make distances so large that the softmax of prototypes
        # is certain, and mostly wrong, when training begins.
        nn.init.constant_(self.norm.weight, width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of waveforms ``[B, samples]``."""
        bands, present = self.log_mel.normalized(x)
        bands = self.augment(bands)
        bands = F.pad(bands, (0, -bands.shape[3] % self.frames_at_once))
        steps = bands[:, 0].mT.unfold(1, self.frames_at_once, self.frames_at_once)
        present = present[:, :: self.frames_at_once]
        vectors = self.reading(steps.flatten(2))
        for layer in self.recurrent:
            vectors = layer(vectors, present[..., None])
        return mean_and_maximum(self.norm(vectors) * present[..., None], present)


class SpecAugment(nn.Module):
    """In training, a stretch of bands and a stretch of frames of each sound become 0, the mean.

    Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
    Interspeech 2019, one mask of each kind and no warping. Drawn with torch's random numbers.

    Args:
        widest_band: the widths of the masks are uniform up to this; 0 for no such mask.
        longest_gap: the same of frames.
    """

    def __init__(self, widest_band: int, longest_gap: int) -> None:
        super().__init__()
        if min(widest_band, longest_gap) < 0:
            raise InputError(
                f"Masks of up to {widest_band} bands and {longest_gap} frames were asked for; give "
                "0 for none."
            )
        self.widest_band, self.longest_gap = widest_band, longest_gap

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[B, 1, mels, frames]``, masked in training."""
        if self.training and self.widest_band:
            x = x * _mask(x, x.shape[2], self.widest_band)[:, None, :, None]
        if self.training and self.longest_gap:
            x = x * _mask(x, x.shape[3], self.longest_gap)[:, None, None, :]
        return x


def _mask(x: Tensor, size: int, widest: int) -> Tensor:
    """For each of x ``[B, ...]`` ones ``[B, size]``, but for a random stretch of zeros."""
    first, second = torch.rand(2, x.shape[0], 1, device=x.device)
    width = (first * (min(widest, size) + 1)).floor()
    start = (second * (size - width + 1)).floor()
    place = torch.arange(size, device=x.device)
    shown: Tensor = (place < start) | (place >= start + width)
    return shown.to(x.dtype)


def _samples(input_shape: Sequence[int], encoder: str) -> int:
    """Checks that ``input_shape`` is (samples,)."""
    if len(input_shape) != 1 or input_shape[0] < 1:
        raise InputError(
            f"{encoder} reads waveforms [samples], but its input_shape is {tuple(input_shape)}."
        )
    return input_shape[0]
