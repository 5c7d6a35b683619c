"""Reptile (Nichol, Achiam, Schulman, 2018)."""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy
from quickstudy.strategies.bases.inner_loop import gradient
from quickstudy.strategies.strategy import LossAndLogits, Theta

InnerOptimizer = Literal["adam", "sgd"]
SQUARES_DECAY, EPSILON = 0.999, 1e-8  # Adam's β2 and ε


class Reptile(GradientStrategy):
    """The start moves towards the parameters that ordinary training on each task reaches.

        θ_0 = φ,   θ_{s+1} = θ_s − α ∇ L(mini-batch s; θ_s),   φ ← φ + ε mean_tasks (θ_S − φ)

    Nichol, Achiam, Schulman, "On First-Order Meta-Learning Algorithms", 2018, arXiv 1803.02999,
    algorithms 1 and 2. As there, meta-training uses more examples of a task than tests do and
    makes no difference between query and support: it learns from all examples of an episode. Inner
    steps are those of Adam with β1 = 0, or of plain gradient descent.

    The loss is ½ mean_tasks |φ − θ_S|² with θ_S held constant: its gradient is φ − mean θ_S, and
    gradient descent with the learning rate ε is the last equation. The training loss that is shown
    is this distance from φ to the tasks' solutions; there is no training accuracy.

    Differs from the paper: the mini-batches of a task go through its examples in a fixed order, one
    example of each class after another, instead of at random, so that no random numbers are drawn
    and tasks can be learned side by side. In use all support examples form one batch, whose
    statistics normalise the queries; the paper passes each query through the network together with
    the support. With ``transductive=True`` queries are normalised by their own batch, as in the
    paper's "Reptile + Transduction".

    Args:
        inner_learning_rate: the step size α; Adam needs about a hundredth of what plain gradient
            descent does.
        inner_batch_size: examples in a mini-batch.
        inner_optimizer: "adam" (with β1 = 0) or "sgd" (plain gradient descent).
    """

    paper = "Nichol, Achiam, Schulman, 2018"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 8,
        inner_learning_rate: float = 0.001,
        test_inner_steps: int | None = 50,
        inner_batch_size: int = 10,
        inner_optimizer: InnerOptimizer = "adam",
        transductive: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            ways,
            inner_steps,
            inner_learning_rate,
            test_inner_steps=test_inner_steps,
            first_order=True,
            transductive=transductive,
        )
        if inner_batch_size < 1:
            raise InputError(f"inner_batch_size is {inner_batch_size}; it must be at least 1.")
        if inner_optimizer not in get_args(InnerOptimizer):
            raise InputError(
                f"The inner_optimizer {inner_optimizer!r} is unknown; choose adam or sgd."
            )
        self.inner_batch_size = inner_batch_size
        self.inner_optimizer = inner_optimizer

    def train_on(self, inputs: Tensor, targets: Tensor, batch_size: int) -> Theta:
        """θ_S of one task's ``[N, *shape]`` and ``[N]``, in mini-batches taken in turn."""
        theta = {name: each.detach() for name, each in self.start().items()}
        squares = {name: torch.zeros_like(each) for name, each in theta.items()}
        for step in range(self.steps):
            first = step * batch_size
            batch = torch.arange(first, first + batch_size, device=inputs.device) % len(inputs)
            found = self.gradient_of(theta, inputs[batch], targets[batch], step)
            if self.inner_optimizer == "sgd":
                theta = self.update(theta, found, step, ())
                continue
            kept, seen = SQUARES_DECAY, 1 - SQUARES_DECAY ** (step + 1)
            for name, each in found.items():
                squares[name] = kept * squares[name] + (1 - kept) * each.square()
                scaled = each / ((squares[name] / seen).sqrt() + EPSILON)
                theta[name] = theta[name] - self.inner_learning_rate * scaled
        return theta

    def gradient_of(self, theta: Theta, inputs: Tensor, targets: Tensor, step: int) -> Theta:
        """∇ L(inputs, targets; θ)."""
        return gradient(
            lambda now: self.inner_loss(now, inputs, targets, step), theta, first_order=True
        )

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        return self.with_statistics(self.train_on(inputs, targets, len(inputs)), inputs)

    def loss(self, episode: Episode) -> LossAndLogits:
        self.check_ways(episode.ways)
        inputs = torch.cat([episode.support.inputs, episode.query.inputs], dim=1)
        targets = torch.cat([episode.support.targets, episode.query.targets], dim=1)
        if not targets.is_floating_point():
            order = taking_turns(targets, episode.ways)
            tasks = torch.arange(len(order), device=order.device)[:, None]
            inputs, targets = inputs[tasks, order], targets[tasks, order]
        train_on = partial(self.train_on, batch_size=self.inner_batch_size)
        arrived: Theta = self.map_tasks(train_on, inputs, targets)
        moves = [phi - arrived[name] for name, phi in self.start().items()]  # [T, *shape] each
        squares = torch.stack([move.square().sum() for move in moves]).sum()
        return squares / (2 * episode.tasks), None


def taking_turns(targets: Tensor, ways: int) -> Tensor:
    """The order ``[T, N]`` that puts every class's first example before every class's second.

    Args:
        targets: ``[T, N]`` int64 in 0..ways-1.
        ways: the number of classes.
    """
    members = F.one_hot(targets, ways)
    number_in_class = (members.cumsum(1) * members).sum(-1)
    return number_in_class.argsort(dim=1, stable=True)
