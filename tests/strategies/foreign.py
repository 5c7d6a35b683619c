"""Tasks of vectors, and encoders as people bring them."""

import torch
from torch import nn

from quickstudy.episodes import Episode, Examples


def encoder_of(*layers, features=None):
    """Layers one after another, with the length of their vectors."""
    encoder = nn.Sequential(*layers)
    sizes = [each for each in encoder.modules() if isinstance(each, nn.Linear)]
    encoder.out_features = features or sizes[-1].out_features
    return encoder


def episode(size=16, ways=5, shots=2, queries=3, tasks=1, seed=0, dtype=torch.float32):
    """Tasks of random vectors."""
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for number in (shots, queries):
        inputs = torch.randn(tasks, ways * number, size, generator=draw, dtype=torch.float64)
        targets = torch.arange(ways).repeat(number).expand(tasks, -1)
        parts.append(Examples(inputs.to(dtype), targets))
    return Episode(*parts, ways)
