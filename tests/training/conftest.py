"""A tiny problem that trains in a second."""

import pytest
import torch

from quickstudy.datasets import ClassDataset
from quickstudy.inputs import ImageInputs


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


@pytest.fixture(scope="session")
def parts() -> dict[str, ClassDataset]:
    return make_blobs().split((0.5, 0.25, 0.25))
