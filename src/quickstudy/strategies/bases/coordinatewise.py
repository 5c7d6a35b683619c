"""Descent by a recurrent network that every coordinate of θ runs for itself."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy
from quickstudy.strategies.bases.inner_loop import gradient_and_value, unflattened
from quickstudy.strategies.strategy import Theta

Memory = tuple[tuple[Tensor, Tensor], ...]
"""Of each layer of an LSTM (h, c), both ``[hidden, n]``."""

P = 10.0
"""The logarithm, below 0, of the size of numbers that count as small."""


def preprocessed(x: Tensor, p: float = P) -> Tensor:
    """Numbers of any size as two of moderate size: how large, and of which sign.

        (log|x| / p, sign x)  if |x| ≥ exp(−p),   else  (−1, exp(p) x)

    Andrychowicz and others, 2016, appendix A.

    Args:
        x: ``[n]``.
        p: so that what lies between exp(−p) and exp(p) becomes a number between −1 and 1.

    Returns:
        ``[2, n]``.
    """
    size = x.abs().clamp(min=math.exp(-p)).log() / p
    return torch.stack([size, (math.exp(p) * x).clamp(-1, 1)])


class SharedLSTM(nn.Module):
    """An LSTM that each of n coordinates runs for itself, all with the same weights.

        (i, f, o, g) = W [x; h] + b,   c ← σ(f) ⊙ c + σ(i) ⊙ tanh(g),   h ← σ(o) ⊙ tanh(c)

    Coordinates are the last axis, so that the numbers of a gate lie in one piece: there are as many
    coordinates as a network has weights.

    Args:
        inputs: the length of x.
        hidden: the length of h and c.
        layers: each reads the h of the one below.
    """

    def __init__(self, inputs: int, hidden: int = 20, layers: int = 1) -> None:
        super().__init__()
        if min(inputs, hidden, layers) < 1:
            raise InputError(
                f"An LSTM of {layers} layers of {hidden} units that reads {inputs} numbers was "
                "asked for; each must be at least 1."
            )
        self.hidden = hidden
        bound = hidden**-0.5  # as torch's own LSTM begins

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        widths = [inputs] + [hidden] * (layers - 1)
        self.weights = nn.ParameterList(uniform(4 * hidden, width + hidden) for width in widths)
        self.biases = nn.ParameterList(uniform(4 * hidden, 1) for _ in widths)

    def init(self, like: Tensor) -> Memory:
        """The memory before anything was read, for as many coordinates as ``like`` has."""
        zeros = like.new_zeros(self.hidden, like.numel())
        return ((zeros, zeros),) * len(self.weights)

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The last layer's h ``[hidden, n]`` and the memory, after reading x ``[inputs, n]``."""
        after = []
        for weight, bias, (h, c) in zip(self.weights, self.biases, memory, strict=True):
            gates = torch.addmm(bias, weight, torch.cat([x, h]))
            openings, candidate = torch.split(gates, [3 * self.hidden, self.hidden])
            i, f, o = openings.sigmoid().chunk(3)
            c = f * c + i * candidate.tanh()
            x = o * c.tanh()
            after.append((x, c))
        return x, tuple(after)


class CoordinatewiseStrategy(GradientStrategy):
    """θ is reached by steps that a recurrent network proposes, coordinate by coordinate.

        θ_{t+1}, h_{t+1} = move(θ_t, ∇ L(support; θ_t), L(support; θ_t), h_t)

    Gradients and losses are constants to φ. The arguments are those of :class:`GradientStrategy`.
    """

    @abstractmethod
    def remember(self, theta: Tensor) -> Any:
        """h_0, for coordinates ``[n]``."""

    @abstractmethod
    def move(
        self, theta: Tensor, gradient: Tensor, loss: Tensor, memory: Any
    ) -> tuple[Tensor, Any]:
        """θ_{t+1} ``[n]`` and h_{t+1}, from θ_t ``[n]``, its gradient ``[n]``, the loss ``[]``."""

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        theta = self.begin(inputs, targets)
        coordinates = flattened(theta)
        memory = self.remember(coordinates)
        for step in range(self.steps):
            function = partial(self.inner_loss, inputs=inputs, targets=targets, step=step)
            found, loss = gradient_and_value(function, theta, first_order=True)
            coordinates, memory = self.move(coordinates, flattened(found), loss, memory)
            pieces = unflattened(coordinates, list(theta.values()))
            theta = dict(zip(theta, pieces, strict=True))
        return self.with_statistics(theta, inputs)


def flattened(theta: Theta) -> Tensor:
    """All coordinates ``[n]`` of θ, tensor after tensor."""
    return torch.cat([each.flatten() for each in theta.values()])
