"""Raw things (image files, arrays, ...) to tensors: the same in training and in use."""

from quickstudy.inputs.augmentation import Augmentation
from quickstudy.inputs.images import ImageInputs, UnreadableError
from quickstudy.inputs.inputs import Inputs, inputs_from_dict

__all__ = ["Augmentation", "ImageInputs", "Inputs", "UnreadableError", "inputs_from_dict"]
