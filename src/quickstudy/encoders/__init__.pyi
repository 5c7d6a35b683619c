from .audio import AudioCNN, AudioGRU
from .conv4 import Conv4
from .encoder import Encoder, Modulation, feature_maps, feature_size, map_shape
from .log_mel import LogMel
from .mlp import MLP
from .pretrained.audio import PretrainedAudioEncoder
from .pretrained.images import PretrainedImageEncoder
from .pretrained.text import PretrainedTextEncoder
from .resnet12 import ResNet12
from .text import TextEncoder

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
