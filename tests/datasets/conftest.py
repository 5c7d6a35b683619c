"""Folders of small pictures."""

import warnings

import numpy as np
from PIL import Image

from quickstudy.datasets import load_dataset
from quickstudy.inputs import ImageInputs


def class_folders(root, places, each=3):
    """A picture folder: ``each`` pictures of random pixels in each of the places."""
    for place in places:
        (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            draw = np.random.default_rng([number, *map(ord, place)])
            pixels = draw.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(pixels).save(root / place / f"{number}.png")
    return root


def loaded(folder, **options):
    """A picture folder's classes, and what was warned of, without the path."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        data = load_dataset(folder, inputs=ImageInputs(4), **options)
    return data, [str(each.message).replace(str(folder), "") for each in seen]


def sizes(data):
    """How many examples each class has."""
    return dict(zip(data.class_names, data.sizes.tolist(), strict=True))
