"""Meta-Curvature (Park, Oliva, 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, RecomputableLoop
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.strategy import Theta

MODES = ("out", "in", "filter")


class MetaCurvature(GradientStrategy):
    """MAML whose inner gradients are multiplied by a learned curvature.

        MC(G) = G ×₃ M_f ×₂ M_i ×₁ M_o,   θ_{s+1} = θ_s − α MC(∇ L(support; θ_s))

    G is the gradient of a kernel ``[C_out, C_in, k k]``, M_o is ``[C_out, C_out]``, M_i
    ``[C_in, C_in]``, M_f ``[k k, k k]``, and ×_n multiplies along axis n. With vec(G) this is
    (M_o ⊗ M_i ⊗ M_f) vec(G). The gradient of a linear layer is multiplied by M_o and M_i only, the
    gradient of a vector by M_o only. The matrices start as the identity, so that training starts as
    MAML, and are learned with φ.

    Park, Oliva, "Meta-Curvature", NeurIPS 2019, section 3.

    Args:
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Park, Oliva, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.1,
        **inner_loop: Unpack[RecomputableLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)
        self.curvature = nn.ParameterDict()
        for name, parameter in self.start().items():
            for mode, size in zip(MODES, as_modes(parameter).shape, strict=False):
                self.curvature[f"{name.replace('.', '_')}_{mode}"] = nn.Parameter(torch.eye(size))

    def learned(self) -> Sequence[Tensor]:
        return tuple(self.curvature.values())

    def update(self, theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
        matrices = iter(learned)
        return {
            name: each - self.inner_learning_rate * curved(gradients[name], matrices)
            for name, each in theta.items()
        }


def as_modes(tensor: Tensor) -> Tensor:
    """A tensor of one to three axes: out, in, and all places of a filter as one."""
    return tensor.flatten(2) if tensor.ndim > 3 else tensor


def curved(gradient: Tensor, matrices: Iterator[Tensor]) -> Tensor:
    """MC(G), which takes the matrix of each of G's axes from ``matrices``."""
    found = as_modes(gradient)
    for axis in range(found.ndim):
        found = multiplied(found, next(matrices), axis)
    return found.reshape(gradient.shape)


@in_full_precision
def multiplied(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """The product along an axis: Y_{.. a ..} = Σ_b M_ab X_{.. b ..}."""
    found: Tensor = torch.tensordot(matrix, tensor, dims=([1], [axis]))
    return found.movedim(0, axis)
