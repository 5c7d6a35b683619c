"""The data and initial weights that all contestants of a part share, made from a seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.speed.peers.plain import Conv4, network
from benchmarks.speed.peers.work import Problem


def episodes(
    model: nn.Module, *, tasks: int = 1, ways: int = 5, shots: int = 1, queries: int = 15
) -> Problem:
    """Tasks of blurred random 28x28 drawings, a drawing a class, and a network's weights."""
    generator = torch.Generator().manual_seed(0)
    drawings = torch.rand(tasks * ways, 1, 7, 7, generator=generator)
    drawings = nn.functional.interpolate(drawings, size=28, mode="bilinear")
    drawings = drawings.view(tasks, ways, 1, 1, 28, 28)
    problem = {f"weights/{n}": p.detach() for n, p in model.named_parameters()}
    for part, each in (("support", shots), ("query", queries)):
        noise = torch.rand(tasks, ways, each, 1, 28, 28, generator=generator)
        problem[f"{part}_inputs"] = ((drawings + noise) / 2).flatten(1, 2)
        problem[f"{part}_targets"] = torch.arange(ways).repeat_interleave(each).repeat(tasks, 1)
    return problem


def maml(
    *, pooling: str = "max", tasks: int, ways: int = 5, shots: int = 1, queries: int = 15
) -> Problem:
    """A meta-batch, and the weights of a Conv4 with a linear output."""
    torch.manual_seed(0)
    model = network(pooling, ways)
    return episodes(model, tasks=tasks, ways=ways, shots=shots, queries=queries)


def prototypes(*, ways: int, shots: int = 1, queries: int = 5) -> Problem:
    """One task, and the weights of a Conv4."""
    torch.manual_seed(0)
    return episodes(Conv4(running=True), ways=ways, shots=shots, queries=queries)


def features(classes: int = 20, examples: int = 600, length: int = 640) -> Problem:
    """Stored features: a normal cloud a class, so wide that clouds overlap."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 1, length, generator=generator)
    noise = torch.randn(classes, examples, length, generator=generator)
    return {
        "features": (centres + 4 * noise).flatten(0, 1),
        "labels": class_labels(classes, examples),
    }


def class_labels(classes: int, examples: int) -> Tensor:
    """The class of each example, class after class."""
    return torch.arange(classes).repeat_interleave(examples)
