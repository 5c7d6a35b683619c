"""Plain PyTorch, as a careful user writes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.speed.peers.work import Problem, Work, tasks, weights


class Conv4(nn.Sequential):
    """Four blocks of convolution, batch normalisation, ReLU and halving, then flattened.

    Args:
        pooling: "max" or "stride".
        running: keep running averages in batch normalisation; in training they change no output.
        channels: of every block.
    """

    def __init__(self, pooling: str = "max", running: bool = False, channels: int = 64) -> None:
        blocks: list[nn.Module] = []
        for wide_in in (1, channels, channels, channels):
            stride = 2 if pooling == "stride" else 1
            layers: list[nn.Module] = [
                nn.Conv2d(wide_in, channels, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(channels, track_running_stats=running),
                nn.ReLU(),
            ]
            blocks.append(nn.Sequential(*layers, *[nn.MaxPool2d(2)] * (pooling == "max")))
        super().__init__(*blocks, nn.Flatten())


def network(pooling: str, ways: int) -> nn.Sequential:
    """A Conv4 for 28x28 grey images and a linear output for each class."""
    return nn.Sequential(Conv4(pooling), nn.Linear(64 if pooling == "max" else 256, ways))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """The gradient of each parameter, by name."""
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def maml(problem: Problem, *, pooling: str, inner_steps: int, rate: float, ways: int = 5) -> Work:
    """The second-order MAML gradient of a meta-batch with torch.func and autograd.grad."""
    model = network(pooling, ways)
    model.load_state_dict(weights(problem))

    def query_loss(x: Tensor, y: Tensor, query: Tensor, targets: Tensor) -> Tensor:
        theta: dict[str, Tensor] = dict(model.named_parameters())
        for _ in range(inner_steps):
            loss = F.cross_entropy(functional_call(model, theta, (x,)), y)
            steps = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {n: w - rate * g for (n, w), g in zip(theta.items(), steps, strict=True)}
        return F.cross_entropy(functional_call(model, theta, (query,)), targets)

    def run() -> float:
        model.zero_grad()
        batch = tasks(problem)
        total = 0.0
        for task in batch:
            loss = query_loss(*task) / len(batch)
            torch.autograd.backward(loss)
            total += loss.item()
        return total

    return Work(run, lambda: gradients(model))


def prototypes(problem: Problem, *, ways: int, apart: bool = False) -> Work:
    """The gradient of a prototypical network's step.

    Args:
        problem: one task.
        ways: classes in the task.
        apart: as easyfsl does it: embed support and query one after the other, each normalised by
            its own batch, and take the distance itself, not its square, for the logit.
    """
    encoder = Conv4(running=True)
    encoder.load_state_dict(weights(problem), strict=False)
    support, labels, query, targets = tasks(problem)[0]

    def run() -> float:
        encoder.zero_grad()
        if apart:
            known, asked = encoder(support), encoder(query)
        else:
            known, asked = encoder(torch.cat([support, query])).split([len(support), len(query)])
        means = torch.stack([known[labels == way].mean(0) for way in range(ways)])
        distances = torch.cdist(asked, means)
        loss = F.cross_entropy(-distances if apart else -distances.square(), targets)
        torch.autograd.backward(loss)
        return loss.item()

    return Work(run, lambda: gradients(encoder))
