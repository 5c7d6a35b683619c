"""Raw things (image files, arrays, ...) to tensors: the same in training and in use."""

from quickstudy.inputs.augmentation import Augmentation
from quickstudy.inputs.features import FeatureInputs
from quickstudy.inputs.images import ImageInputs, UnreadableError
from quickstudy.inputs.inputs import Inputs, inputs_from_dict

__all__ = [
    "Augmentation",
    "FeatureInputs",
    "ImageInputs",
    "Inputs",
    "UnreadableError",
    "inputs_from_dict",
]
