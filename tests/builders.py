"""What tests of several rooms build: small data, small strategies, short runs."""

import numpy as np
import torch
from PIL import Image
from torch import nn

import quickstudy
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import MLP, Conv4
from quickstudy.inputs import FeatureInputs, ImageInputs
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


def prototypes(encoder=None):
    """Prototypes on vectors of sixteen numbers."""
    torch.manual_seed(0)
    return PrototypicalNetwork(encoder or MLP((16,)))


def fit(strategy, train, validation=None, **settings):
    """A run of two steps."""
    usual = {"queries": 3, "steps": 2, "show_progress": False, "validation_episodes": 4}
    return quickstudy.fit(strategy, train, validation, **usual | settings)


def vectors(classes=12, each=20, size=16, spread=1.5, seed=0, dtype=torch.float32):
    """Classes of points around means of their own, which lie ``spread`` apart."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, 1, size, generator=draw) * spread
    points = (means + torch.randn(classes, each, size, generator=draw)).flatten(0, 1).to(dtype)
    names = [f"c{number:02}" for number in range(classes)]
    return ClassDataset.contiguous(points, [each] * classes, names, FeatureInputs(size), "vectors")


def write_pictures(root, classes=16, each=6, side=12, noise=60):
    """A folder of PNGs, a sub-folder of noisy copies of a random picture per class."""
    generator = np.random.default_rng(0)
    for number in range(classes):
        folder = root / f"thing{number:02}"
        folder.mkdir(parents=True)
        picture = generator.integers(0, 256, (side, side, 3))
        for example in range(each):
            noisy = (picture + generator.integers(-noise, noise, picture.shape)).clip(0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{example}.png")
    return root


def command(*words):
    """Runs a command in this process; returns its exit code."""
    from quickstudy.cli.main import main

    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        return ended.code or 0
    raise AssertionError("A command ends with an exit code.")


class Raw(nn.Flatten):
    """Raw vectors, so that features are what a case says."""

    def __init__(self, size=4):
        super().__init__()
        self.out_features = size


class CountingBatches(nn.Module):
    """A linear encoder that remembers how many inputs each call brought."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return self.linear(x.flatten(1))
