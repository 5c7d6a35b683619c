"""Families of optimisation problems, and how an optimiser learns to solve them.

Andrychowicz, Denil, Gomez, Hoffman, Pfau, Schaul, Shillingford, de Freitas, "Learning to learn by
gradient descent by gradient descent", NeurIPS 2016, sections 2 and 3.

All works on a batch of problems at once: their coordinates stand side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.errors import InputError
from quickstudy.strategies.recurrent.learned_optimizer import CoordinatewiseLSTM

SMALL = 0.01
"""The size of the numbers that quadratics start from."""


class Problems(ABC):
    """P problems f(θ) of n coordinates each, and where to start.

    Attributes:
        start: θ_0, ``[P, n]``.
    """

    start: Tensor

    @abstractmethod
    def losses(self, theta: Tensor, step: int) -> Tensor:
        """f(θ) ``[P]`` of θ ``[P, n]``; of step ``step`` where each sees other examples."""

    def at(self, theta: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """f(θ) ``[P]`` and ∇f(θ) ``[P, n]``, both constants."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            losses = self.losses(theta, step)
            (gradient,) = torch.autograd.grad(losses.sum(), theta)
        return losses.detach(), gradient


Family = Callable[[int, int], Problems]
"""Draws so many problems from a seed."""


@dataclass(frozen=True)
class Quadratics(Problems):
    """f(θ) = |W θ − y|² (section 3.1).

    Args:
        start: ``[P, n]``.
        matrices: W, ``[P, n, n]``.
        targets: y, ``[P, n]``.
    """

    start: Tensor
    matrices: Tensor
    targets: Tensor

    def losses(self, theta: Tensor, step: int) -> Tensor:
        images = (self.matrices @ theta[..., None])[..., 0]
        return (images - self.targets).square().sum(-1)


def quadratics(problems: int, seed: int, coordinates: int = 10) -> Quadratics:
    """Quadratics whose W and y are standard normal, from a start near zero."""
    generator = torch.Generator().manual_seed(seed)
    start, targets = torch.randn(2, problems, coordinates, generator=generator)
    matrices = torch.randn(problems, coordinates, coordinates, generator=generator)
    return Quadratics(SMALL * start, matrices, targets)


@dataclass(frozen=True)
class Classifiers(Problems):
    """f(θ) is the cross-entropy of a network on some of its examples, others at each step.

    The network has one hidden layer of sigmoid units (section 3.2).

    Args:
        start: ``[P, n]``.
        inputs: of each problem, ``[P, N, D]``.
        targets: ``[P, N]`` int64.
        hidden: units.
        ways: classes.
        batch_size: examples of a step.
        seed: random seed of the draw.
    """

    start: Tensor
    inputs: Tensor
    targets: Tensor
    hidden: int
    ways: int
    batch_size: int
    seed: int

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs ``[P, batch_size, D]`` and targets of a step, always the same."""
        problems, examples = self.targets.shape
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        rows = torch.randint(examples, (problems, self.batch_size), generator=generator)
        each = torch.arange(problems)[:, None]
        return self.inputs[each, rows], self.targets[each, rows]

    def losses(self, theta: Tensor, step: int) -> Tensor:
        inputs, targets = self.batch(step)
        shapes = layers(inputs.shape[-1], self.hidden, self.ways)
        pieces = torch.split(theta, [wide * (deep + 1) for wide, deep in shapes], dim=1)
        x = inputs
        for number, (piece, (wide, deep)) in enumerate(zip(pieces, shapes, strict=True)):
            weight, bias = torch.split(piece, [wide * deep, wide], dim=1)
            x = torch.sigmoid(x) if number else x
            x = torch.baddbmm(bias[:, None], x, weight.view(-1, wide, deep).mT)
        losses = F.cross_entropy(x.flatten(0, 1), targets.flatten(), reduction="none")
        return losses.view(targets.shape).mean(1)


def layers(inputs: int, hidden: int, ways: int) -> list[tuple[int, int]]:
    """The shapes (outputs, inputs) of a network's two layers."""
    return [(hidden, inputs), (ways, hidden)]


def classifiers(
    examples: Tensor,
    problems: int,
    seed: int,
    ways: int = 10,
    hidden: int = 20,
    batch_size: int = 64,
) -> Classifiers:
    """Networks that learn to tell classes, drawn for each of them, from each other.

    Args:
        examples: of C classes M examples each, ``[C, M, D]``.
        problems: how many.
        seed: random seed of the draw and of the examples in each step.
        ways: classes of a problem.
        hidden: units of the network's hidden layer.
        batch_size: examples of a step.
    """
    if len(examples) < ways:
        raise InputError(
            f"Problems of {ways} classes were asked for, but there are {len(examples)} classes. "
            "Ask for fewer, or give more."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(examples), generator=generator)[:ways] for _ in range(problems)]
    inputs = examples[torch.stack(chosen)].flatten(1, 2)
    targets = torch.arange(ways).repeat_interleave(examples.shape[1]).expand(problems, -1)
    # Weights and biases begin as those of a linear layer do.
    start = torch.cat(
        [
            (2 * torch.rand(problems, wide * (deep + 1), generator=generator) - 1) * deep**-0.5
            for wide, deep in layers(inputs.shape[-1], hidden, ways)
        ],
        dim=1,
    )
    return Classifiers(start, inputs, targets, hidden, ways, batch_size, seed)


@torch.no_grad()
def optimize(optimizer: CoordinatewiseLSTM, problems: Problems, steps: int) -> Tensor:
    """The losses ``[steps + 1, P]`` on the way of a learned optimiser, the start's first."""
    theta, memory = problems.start, optimizer.init(problems.start)
    found, gradient = problems.at(theta, 0)
    path = [found]
    for step in range(1, steps + 1):
        move, memory = optimizer.step(gradient, memory)
        theta = theta + move
        found, gradient = problems.at(theta, step)
        path.append(found)
    return torch.stack(path)


def unrolled(
    optimizer: CoordinatewiseLSTM, problems: Problems, steps: int, window: int
) -> Iterator[Tensor]:
    """The mean loss on the way, of one window of steps after another, to be differentiated by φ.

        L = mean over problems and steps t of f(θ_t),   dL/dφ = mean of ∇f(θ_t) · dθ_t/dφ

    Gradients ∇f that the optimiser reads are constants (the dashed edges of the paper's figure 2),
    and windows begin at constants, so that φ may change between them. The paper sums over steps.

    Args:
        optimizer: of parameters φ.
        problems: to solve.
        steps: in all.
        window: steps that are differentiated through; the last window may be shorter.
    """
    if min(steps, window) < 1:
        raise InputError(f"steps is {steps} and window {window}; both must be at least 1.")
    theta, memory = problems.start, optimizer.init(problems.start)
    _, gradient = problems.at(theta, 0)
    for first in range(0, steps, window):
        path = []
        for step in range(first + 1, min(first + window, steps) + 1):
            move, memory = optimizer.step(gradient, memory)
            theta = theta + move
            found, gradient = problems.at(theta, step)
            # f(θ) to autograd, for which nothing needs to be computed that is not known: the
            # optimiser reads ∇f(θ) anyway.
            path.append(found + (gradient * (theta - theta.detach())).sum(1))
        yield torch.stack(path).mean()
        theta, memory = theta.detach(), tree_map(torch.Tensor.detach, memory)


def train_optimizer(
    optimizer: CoordinatewiseLSTM,
    family: Family,
    meta_optimizer: torch.optim.Optimizer,
    batches: Iterable[int],
    problems: int = 8,
    steps: int = 100,
    window: int = 20,
) -> list[float]:
    """Trains by truncated backpropagation through time, an update of φ after each window.

    Args:
        optimizer: changed in place.
        family: what problems are drawn from, the number of the batch being the seed.
        meta_optimizer: of the optimiser's parameters φ; the paper uses Adam.
        batches: numbers of the batches of problems to learn from, one after another.
        problems: in a batch.
        steps: taken on each.
        window: steps that are differentiated through.

    Returns:
        The mean loss on the way, for each batch.
    """
    found = []
    for number in batches:
        each = []
        for loss in unrolled(optimizer, family(problems, number), steps, window):
            meta_optimizer.zero_grad()
            torch.autograd.backward(loss)
            meta_optimizer.step()
            each.append(loss.item())
        found.append(sum(each) / len(each))
    return found
