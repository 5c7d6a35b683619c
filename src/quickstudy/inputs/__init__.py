"""Raw things (image files, arrays, ...) to tensors: the same in training and in use."""

from quickstudy.inputs.audio import AudioInputs
from quickstudy.inputs.augmentation import Augmentation
from quickstudy.inputs.features import FeatureInputs
from quickstudy.inputs.images import ImageInputs
from quickstudy.inputs.inputs import Inputs, described_inputs, inputs_from_dict
from quickstudy.inputs.pretrained import PretrainedImageInputs, PretrainedTextInputs
from quickstudy.inputs.text import TextInputs
from quickstudy.inputs.unreadable import UnreadableError

__all__ = [
    "AudioInputs",
    "Augmentation",
    "FeatureInputs",
    "ImageInputs",
    "Inputs",
    "PretrainedImageInputs",
    "PretrainedTextInputs",
    "TextInputs",
    "UnreadableError",
    "described_inputs",
    "inputs_from_dict",
]
