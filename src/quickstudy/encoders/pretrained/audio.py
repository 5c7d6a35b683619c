"""Pretrained models of speech and sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from quickstudy.encoders.pretrained.encoder import (
    PretrainedEncoder,
    load_weights,
    quiet,
    remove_unused,
    tower_of,
)
from quickstudy.errors import InputError
from quickstudy.inputs.audio import AudioInputs
from quickstudy.saving.model_files import ModelFolder

DEFAULT_SECONDS = 10.0
"""Read of a sound by models that have no window of their own."""


@dataclass(frozen=True)
class AudioTower:
    """How one architecture makes a vector of a sound.

    Args:
        model: the class in the library transformers.
        reads: "waveform" (of any length) or "spectrogram" (of the model's window).
        output: "mean" over the frames of the sound, or the name of a vector in the answer.
        size: D, in the model's configuration.
        seconds: the model's window, from its feature extractor.
    """

    model: str
    reads: Literal["waveform", "spectrogram"]
    output: str
    size: str
    seconds: Callable[[Any], float | None]


def _no_window(extractor: Any) -> None:
    return None


def _whisper_window(extractor: Any) -> float:
    return float(extractor.n_samples / extractor.sampling_rate)


def _ast_window(extractor: Any) -> float:
    # Frames of 400 samples, 160 apart.
    return float(((extractor.max_length - 1) * 160 + 400) / extractor.sampling_rate)


def _clap_window(extractor: Any) -> float:
    return float(extractor.nb_max_samples / extractor.sampling_rate)


_CLAP = AudioTower(
    "ClapAudioModelWithProjection", "spectrogram", "audio_embeds", "projection_dim", _clap_window
)

AUDIO_TOWERS = {
    "wav2vec2": AudioTower("Wav2Vec2Model", "waveform", "mean", "hidden_size", _no_window),
    "hubert": AudioTower("HubertModel", "waveform", "mean", "hidden_size", _no_window),
    "wavlm": AudioTower("WavLMModel", "waveform", "mean", "hidden_size", _no_window),
    "whisper": AudioTower("WhisperModel", "spectrogram", "mean", "d_model", _whisper_window),
    # The mean of its class token and its distillation token, which its classifier reads.
    "audio-spectrogram-transformer": AudioTower(
        "ASTModel", "spectrogram", "pooler_output", "hidden_size", _ast_window
    ),
    # The projected embedding that training compared with texts.
    "clap": _CLAP,
    "clap_audio_model": _CLAP,
}
"""By the model type in ``config.json``."""


class PretrainedAudioEncoder(PretrainedEncoder):
    """A model of speech or sound: wav2vec 2.0, HuBERT, Whisper's encoder, AST, CLAP's audio tower.

    It reads waveforms and runs the model's own feature extractor on them, so its inputs are plain
    :class:`AudioInputs` at the model's sampling rate. The vector is the mean over the sound's
    frames (wav2vec 2.0, HuBERT, WavLM, Whisper), the pooled output (AST), or the embedding that
    training compared with texts (CLAP). Digital silence at a sound's end is padding: no vector
    depends on it beyond what the model's own window brings with it, nor on other sounds.

    Args:
        name: a hub id such as "facebook/wav2vec2-base", or a local folder laid out like one.
        revision: a branch, tag or commit of the hub.
        seconds: read of a sound; None for the model's window (Whisper 30, AST and CLAP 10), else
            10. Longer sounds are cropped at the centre.

    Raises:
        FileNotFoundError, ValueError: as :func:`quickstudy.saving.model_files.model_folder`; or
            no audio encoder is known in the model, or its window is shorter than ``seconds``.
        ImportError: the extra "pretrained" is not installed.
    """

    towers = AUDIO_TOWERS

    def __init__(
        self, name: str, revision: str | None = None, seconds: float | None = None
    ) -> None:
        super().__init__(name, revision)
        self.tower = tower_of(AUDIO_TOWERS, self.folder, "sounds")
        self.seconds = seconds
        self.extractor = _feature_extractor(self.folder)
        window = self.tower.seconds(self.extractor)
        if seconds is not None and not 0 < seconds <= (window or seconds):
            raise InputError(
                f"{seconds} seconds of sound were asked for; {self.name} reads more than 0"
                + (f" and at most {window:g}." if window else ".")
            )
        self.rate = int(self.extractor.sampling_rate)
        self.inputs = AudioInputs(self.rate, seconds or window or DEFAULT_SECONDS)
        self.input_shape = (self.inputs.samples,)
        network = load_weights(self.folder, self.tower.model)
        self.network = network.encoder if self.folder.model_type == "whisper" else network
        remove_unused(self.network)
        config = self.network.config
        config.apply_spec_augment = False  # it fails on sounds shorter than its mask
        self.out_features = int(getattr(config, self.tower.size))
        self.shortest = _shortest(config) if self.tower.reads == "waveform" else 400
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of waveforms ``[B, samples]``, -1 to 1, at ``rate``."""
        self.check(x)
        lengths = _lengths(x).clamp(min=min(self.shortest, x.shape[1]))
        if self.tower.reads == "waveform":
            return self._of_waveforms(x, lengths)
        sounds = [
            row[:length] for row, length in zip(x.cpu().numpy(), lengths.tolist(), strict=True)
        ]
        made = self.extractor(sounds, sampling_rate=self.rate, return_tensors="pt")
        name = self.extractor.model_input_names[0]
        features = made[name].to(x)
        if self.folder.model_type in ("clap", "clap_audio_model"):
            # The extractor marks one sound of a batch as longer than the window, by chance.
            longer = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
            output = self.network(features, is_longer=longer)
        else:
            output = self.network(features)
        if self.tower.output != "mean":
            vectors: Tensor = getattr(output, self.tower.output)
            return vectors
        frames: Tensor = output.last_hidden_state
        # The encoder's frames share the window evenly among them.
        samples = int(self.extractor.n_samples) / frames.shape[1]
        count = (lengths / samples).ceil().clamp(min=1)
        here = (torch.arange(frames.shape[1], device=x.device) < count[:, None])[:, :, None]
        return (frames * here).sum(1) / count[:, None]

    def _of_waveforms(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Sounds of one length together: a mask would not keep padding out of group statistics."""
        rows, vectors = [], []
        for length in set(lengths.tolist()):
            alike = (lengths == length).nonzero()[:, 0]
            sounds = x[alike, :length]
            if self.extractor.do_normalize:
                centred = sounds - sounds.mean(1, keepdim=True)
                sounds = centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()
            rows.append(alike)
            vectors.append(self.network(sounds).last_hidden_state.mean(1))
        return torch.cat(vectors)[torch.cat(rows).argsort()]


def _lengths(x: Tensor) -> Tensor:
    """The samples ``[B]`` of each sound up to its last that is not 0."""
    place = torch.arange(1, x.shape[1] + 1, device=x.device)
    return (place * (x != 0)).amax(1)


def _shortest(config: Any) -> int:
    """The samples of which the convolutions make one frame."""
    samples = 1
    for kernel, stride in zip(
        reversed(config.conv_kernel), reversed(config.conv_stride), strict=True
    ):
        samples = (samples - 1) * stride + kernel
    return samples


def _feature_extractor(folder: ModelFolder) -> Any:
    import transformers

    extractors: Any = transformers.AutoFeatureExtractor
    with quiet():
        try:
            return extractors.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, ImportError, TypeError) as error:
            raise InputError(
                f"{folder.name} does not say how sounds are prepared for it: its "
                f"preprocessor_config.json is missing or cannot be used ({error})."
            ) from error
