"""The inner loop that strategies of gradient steps share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quickstudy.encoders.normalization import transformed
from quickstudy.strategies.strategy import Theta

Update = Callable[[Theta, Theta, int, Sequence[Tensor]], Theta]


def gradient(function: Callable[[Theta], Tensor], theta: Theta, first_order: bool = False) -> Theta:
    """∇ function(theta), which can itself be differentiated unless ``first_order``.

    Args:
        function: from θ to a number.
        theta: tensors of any shapes.
        first_order: return the gradient as a constant, without the graph that led to it.
    """
    return gradient_and_value(function, theta, first_order)[0]


def gradient_and_value(
    function: Callable[[Theta], Tensor], theta: Theta, first_order: bool = False
) -> tuple[Theta, Tensor]:
    """The gradient and the value at θ, both detached if ``first_order``."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or transformed():
        found, value = torch.func.grad_and_value(function)(theta)
        if first_order:
            found, value = {name: each.detach() for name, each in found.items()}, value.detach()
        return found, value
    # Outside of torch.func's transformations, autograd by itself has less to do.
    wanted = torch.is_grad_enabled() and not first_order
    with torch.enable_grad():
        start = {
            name: each if wanted and each.requires_grad else each.detach().requires_grad_()
            for name, each in theta.items()
        }
        value = function(start)
        gradients = torch.autograd.grad(
            value, list(start.values()), create_graph=wanted, materialize_grads=True
        )
    return dict(zip(theta, gradients, strict=True)), value if wanted else value.detach()


def unflattened(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The pieces of ``vector`` in the shapes of ``like``."""
    pieces = torch.split(vector, [each.numel() for each in like])
    return [piece.view(each.shape) for piece, each in zip(pieces, like, strict=True)]


def descend(
    function: Callable[[Theta, int], Tensor],
    theta: Theta,
    update: Update,
    steps: int,
    *,
    learned: Sequence[Tensor] = (),
    first_order: bool = False,
    recompute: bool = False,
) -> Theta:
    """θ_S of θ_{s+1} = update(θ_s, ∇ function(θ_s, s), s), s = 0, 1, .., S − 1.

    Args:
        function: the loss of θ before step s.
        theta: θ_0, tensors of any shapes.
        update: from (θ_s, its gradient, s, ``learned``) to θ_{s+1}, the same names in the same
            order.
        steps: S.
        learned: the parameters that ``update`` depends on besides θ.
        first_order: treat the gradients as constants.
        recompute: keep only each θ_s and compute the steps again in the backward pass: memory then
            hardly grows with S, at the cost of another forward pass. ``function`` must then depend
            on no learned parameters but θ.
    """
    names = list(theta)

    def step(number: int, *values: Tensor) -> tuple[Tensor, ...]:
        now, more = dict(zip(names, values, strict=False)), values[len(names) :]
        found = gradient(lambda theta: function(theta, number), now, first_order)
        return tuple(update(now, found, number, more).values())

    values = tuple(theta.values())
    for number in range(steps):
        one = functools.partial(step, number)
        if recompute and torch.is_grad_enabled():
            values = _Recomputed.apply(one, *values, *learned)  # type: ignore[no-untyped-call]
        else:
            values = one(*values, *learned)
    return dict(zip(names, values, strict=True))


class _Recomputed(torch.autograd.Function):
    """A function of tensors that is computed again when its derivative is wanted."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., tuple[Tensor, ...]], *values: Tensor) -> Any:
        ctx.function, ctx.random = function, torch.get_rng_state()
        ctx.save_for_backward(*values)
        return function(*values)  # autograd does not look in here

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values = [value.detach().requires_grad_() for value in ctx.saved_tensors]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.random)  # what was dropped is dropped again
            outputs = ctx.function(*values)
        return (None, *torch.autograd.grad(outputs, values, gradients, allow_unused=True))
