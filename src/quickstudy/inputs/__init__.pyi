from .audio import AudioInputs
from .augmentation import Augmentation
from .describing import described_inputs, inputs_from_dict
from .features import FeatureInputs
from .images import ImageInputs
from .inputs import Inputs
from .pretrained import PretrainedImageInputs, PretrainedTextInputs
from .text import TextInputs
from .unreadable import UnreadableError

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
