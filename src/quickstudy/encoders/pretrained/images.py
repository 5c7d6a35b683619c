"""Pretrained vision models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quickstudy.encoders.pretrained.encoder import (
    PretrainedEncoder,
    load_weights,
    remove_unused,
    tower_of,
)
from quickstudy.inputs import PretrainedImageInputs


@dataclass(frozen=True)
class ImageTower:
    """How one architecture makes a vector of an image.

    Args:
        model: the class in the library transformers.
        read: the vectors ``[B, D, ...]`` in what the model answers.
        size: D, in the model's configuration.
    """

    model: str
    read: Callable[[Any], Tensor]
    size: Callable[[Any], int]


def _class_token(output: Any) -> Tensor:
    token: Tensor = output.last_hidden_state[:, 0]
    return token


def _pooled(output: Any) -> Tensor:
    pooled: Tensor = output.pooler_output
    return pooled


def _projected(output: Any) -> Tensor:
    projected: Tensor = output.image_embeds
    return projected


def _hidden(config: Any) -> int:
    return int(config.hidden_size)


def _last_hidden(config: Any) -> int:
    return int(config.hidden_sizes[-1])


def _projection(config: Any) -> int:
    return int(config.projection_dim)


_CLIP = ImageTower("CLIPVisionModelWithProjection", _projected, _projection)
_SIGLIP = ImageTower("SiglipVisionModel", _pooled, _hidden)

IMAGE_TOWERS = {
    # The class token after the last normalisation, which the classification heads read. The pooler
    # of ViT is a layer that most checkpoints lack.
    "vit": ImageTower("ViTModel", _class_token, _hidden),
    "deit": ImageTower("DeiTModel", _class_token, _hidden),
    # Their pooled output is the normalised class token.
    "dinov2": ImageTower("Dinov2Model", _pooled, _hidden),
    "dinov2_with_registers": ImageTower("Dinov2WithRegistersModel", _pooled, _hidden),
    # The embedding that training compared with texts: of CLIP the projected class token, of SigLIP
    # what its attention pools.
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    # The mean over all places of the last map, normalised in ConvNeXt and Swin.
    "convnext": ImageTower("ConvNextModel", _pooled, _last_hidden),
    "convnextv2": ImageTower("ConvNextV2Model", _pooled, _last_hidden),
    "resnet": ImageTower("ResNetModel", _pooled, _last_hidden),
    "regnet": ImageTower("RegNetModel", _pooled, _last_hidden),
    "swin": ImageTower("SwinModel", _pooled, _hidden),
}
"""By the model type in ``config.json``."""


class PretrainedImageEncoder(PretrainedEncoder):
    """A vision model: ViT, DINOv2, the image towers of CLIP and SigLIP, ConvNeXt, ResNet, ...

    The vector is the model's own summary of an image: the class token of ViT and DINOv2, the
    embedding that CLIP and SigLIP compare with texts (CLIP's projected), the mean over all places
    of the last map of ConvNeXt, ResNet and Swin. It is not scaled to length 1.

    Args:
        name: a hub id such as "facebook/dinov2-small", or a local folder laid out like one.
        revision: a branch, tag or commit of the hub.

    Raises:
        FileNotFoundError, ValueError: as :func:`quickstudy.saving.model_files.model_folder`; or
            no image encoder is known in the model.
        ImportError: the extra "pretrained" is not installed.
    """

    towers = IMAGE_TOWERS

    def __init__(self, name: str, revision: str | None = None) -> None:
        super().__init__(name, revision)
        self.tower = tower_of(IMAGE_TOWERS, self.folder, "images")
        self.inputs = PretrainedImageInputs(self.name, self.revision)
        self.network = load_weights(self.folder, self.tower.model)
        if self.tower.read is _class_token:
            remove_unused(self.network)
        self.input_shape = self.inputs.shape
        self.out_features = self.tower.size(self.network.config)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of images ``[B, *input_shape]``."""
        self.check(x)
        return self.tower.read(self.network(pixel_values=x)).flatten(1)
