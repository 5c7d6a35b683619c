"""Implicit MAML (Rajeswaran, Finn, Kakade, Levine, 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, InnerLoop
from quickstudy.strategies.bases.inner_loop import descend, unflattened
from quickstudy.strategies.strategy import Theta


class IMAML(GradientStrategy):
    """MAML whose meta-gradient depends only on the solution θ, not on the steps that led to it.

        θ* = argmin_θ L(support; θ) + λ/2 |θ − φ|²,   found by  θ ← θ − α (∇L(θ) + λ (θ − φ))
        dθ*/dφ = (I + H/λ)⁻¹,   H = ∇² L(support; θ*)

    The meta-gradient (I + H/λ)⁻¹ ∇L(query; θ*) is computed by conjugate gradients; each of their
    steps needs one product of H with a vector. Memory does not grow with the inner steps.

    Rajeswaran, Finn, Kakade, Levine, "Meta-Learning with Implicit Gradients", NeurIPS 2019,
    equations 3 and 6, algorithms 1 and 2. Conjugate gradients stop before a direction of negative
    curvature, where the inner problem is not convex.

    Args:
        inner_steps: gradient steps in meta-training; enough that θ hardly moves any more.
        inner_learning_rate: the step size α; below 2 / (λ + the largest curvature of L).
        proximity: λ, how strongly θ is held at φ.
        solver_steps: steps of conjugate gradients; with 0 the meta-gradient is ∇L(query; θ*).
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Rajeswaran, Finn, Kakade, Levine, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 16,
        inner_learning_rate: float = 0.1,
        proximity: float = 2.0,
        solver_steps: int = 5,
        **inner_loop: Unpack[InnerLoop],
    ) -> None:
        super().__init__(
            encoder,
            ways,
            inner_steps,
            inner_learning_rate,
            recompute=True,  # tasks one by one: vmap does not know the implicit gradient
            **inner_loop,
        )
        if not proximity > 0 or solver_steps < 0:
            raise InputError(
                f"proximity is {proximity} and solver_steps {solver_steps}; the first must be more "
                "than 0, the second may not be negative."
            )
        self.proximity = proximity
        self.solver_steps = solver_steps

    def update(self, theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
        return {
            name: each
            - self.inner_learning_rate * (gradients[name] + self.proximity * (each - start))
            for (name, each), start in zip(theta.items(), learned, strict=True)
        }

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        names = list(phi := self.start())

        def loss(*values: Tensor) -> Tensor:
            return self.inner_loss(dict(zip(names, values, strict=True)), inputs, targets, 0)

        def solve(*start: Tensor) -> tuple[Tensor, ...]:
            theta = descend(
                lambda theta, step: loss(*theta.values()),
                dict(zip(names, start, strict=True)),
                self.update,
                self.steps,
                learned=start,
                first_order=True,
            )
            return tuple(theta.values())

        def back(solution: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
            product = hessian_product(loss, solution)
            right = torch.cat([gradient.flatten() for gradient in gradients])
            found = conjugate_gradients(
                lambda vector: vector + product(vector) / self.proximity, right, self.solver_steps
            )
            return unflattened(found, solution)

        values = tuple(phi.values())
        if torch.is_grad_enabled():
            values = _Solution.apply(solve, back, *values)  # type: ignore[no-untyped-call]
        else:
            values = solve(*values)
        return self.with_statistics(dict(zip(names, values, strict=True)), inputs)


class _Solution(torch.autograd.Function):
    """``solve(*start)``; gradients pass by ``back``, and how it was solved leaves nothing."""

    @staticmethod
    def forward(
        ctx: Any, solve: Callable[..., Any], back: Callable[..., Any], *start: Tensor
    ) -> Any:
        ctx.back = back
        solution = solve(*(each.detach() for each in start))
        ctx.save_for_backward(*solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return (None, None, *ctx.back(ctx.saved_tensors, gradients))


def hessian_product(
    loss: Callable[..., Tensor], values: Sequence[Tensor]
) -> Callable[[Tensor], Tensor]:
    """The function v → ∇² loss(*values) v, of vectors as long as all values together."""
    with torch.enable_grad():
        values = [each.detach().requires_grad_() for each in values]
        slopes = torch.autograd.grad(
            loss(*values), values, create_graph=True, materialize_grads=True
        )
        slope = torch.cat([each.flatten() for each in slopes])

    def product(vector: Tensor) -> Tensor:
        found = torch.autograd.grad(
            slope, values, vector, retain_graph=True, materialize_grads=True
        )
        return torch.cat([each.flatten() for each in found])

    return product


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Solves A x = ``right``, for a symmetric A given by its product with a vector.

    Ends where rounding begins, or before a direction along which A is not positive; where that is
    the first, x is ``right``.
    """
    x, residual, direction = torch.zeros_like(right), right, right
    first = square = residual @ residual
    for step in range(steps):
        if square <= first * torch.finfo(right.dtype).eps ** 2:
            break
        image = product(direction)
        curvature = direction @ image
        if curvature <= 0:
            return x if step else right
        x = x + square / curvature * direction
        residual = residual - square / curvature * image
        square, before = residual @ residual, square
        direction = residual + square / before * direction
    return x if steps else right
