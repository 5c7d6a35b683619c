"""Networks that map inputs to vectors. Any ``nn.Module`` that does so is an encoder."""

from quickstudy.encoders.audio import AudioCNN, AudioGRU
from quickstudy.encoders.conv4 import Conv4
from quickstudy.encoders.encoder import Encoder, Modulation, feature_maps, feature_size, map_shape
from quickstudy.encoders.log_mel import LogMel
from quickstudy.encoders.mlp import MLP
from quickstudy.encoders.pretrained import (
    PretrainedAudioEncoder,
    PretrainedImageEncoder,
    PretrainedTextEncoder,
)
from quickstudy.encoders.resnet12 import ResNet12
from quickstudy.encoders.text import TextEncoder

__all__ = [
    "MLP",
    "AudioCNN",
    "AudioGRU",
    "Conv4",
    "Encoder",
    "LogMel",
    "Modulation",
    "PretrainedAudioEncoder",
    "PretrainedImageEncoder",
    "PretrainedTextEncoder",
    "ResNet12",
    "TextEncoder",
    "feature_maps",
    "feature_size",
    "map_shape",
]
