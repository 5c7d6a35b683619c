"""Networks that map inputs to vectors. Any ``nn.Module`` that does so is an encoder."""

from quickstudy.encoders.conv4 import Conv4
from quickstudy.encoders.encoder import Encoder, Modulation, feature_maps, feature_size, map_shape
from quickstudy.encoders.mlp import MLP
from quickstudy.encoders.resnet12 import ResNet12

__all__ = [
    "MLP",
    "Conv4",
    "Encoder",
    "Modulation",
    "ResNet12",
    "feature_maps",
    "feature_size",
    "map_shape",
]
