"""What tests of several rooms build: small data, small strategies, short runs."""

import torch

from quickstudy.datasets import ClassDataset
from quickstudy.encoders import Conv4
from quickstudy.inputs import ImageInputs
from quickstudy.strategies import PrototypicalNetwork

SETTINGS = {
    "ways": 4,
    "shots": 1,
    "queries": 3,
    "tasks": 2,
    "learning_rate": 3e-3,
    "validate_every": 10,
    "validation_episodes": 20,
    "validation_queries": 5,
    "log_every": 5,
    "checkpoint_every": 5,
    "show_progress": False,
}
"""Of a run on the blobs."""


def make_blobs(classes: int = 24, each: int = 12, seed: int = 0) -> ClassDataset:
    """A random 8x8 picture a class, under strong stripes that say nothing of the class.

    Whoever compares pixels compares stripes; a strategy can learn to look past them.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(classes, 1, 1, 8, 8, generator=generator)
    rows = torch.randn(classes, each, 1, 8, 1, generator=generator)
    noise = torch.randn(classes, each, 1, 8, 8, generator=generator)
    images = 128 + 20 * pictures + 50 * rows + 8 * noise
    names = [f"class{number:02}" for number in range(classes)]
    stored = images.clamp(0, 255).to(torch.uint8).flatten(0, 1)
    return ClassDataset.contiguous(stored, [each] * classes, names, ImageInputs(8, 1), "blobs")


def make(kind=PrototypicalNetwork, **arguments):
    torch.manual_seed(0)
    return kind(Conv4((1, 8, 8), channels=8, blocks=2), **arguments)
