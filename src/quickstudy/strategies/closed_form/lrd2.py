"""Logistic regression by Newton's method as a learner (Bertinetto et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.strategies.closed_form.r2d2 import R2D2
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive, ridge

LEAST_CURVATURE = 1e-6
"""Below it an example's probability is 0 or 1 to rounding."""


class LRD2(R2D2):
    """Logistic regression on the support, by a few differentiable Newton steps.

        μ_i = σ(X w_i),  s_i = μ_i (1 − μ_i),  z_i = X w_i + (y − μ_i) / s_i
        w_{i+1} = Xᵀ (X Xᵀ + λ diag(s_i)⁻¹)⁻¹ z_i,   w_0 = 0,   ŷ = α f(x; φ)ᵀ w_S

    Each step is a ridge regression whose examples are weighted by s_i: iteratively reweighted least
    squares. Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form
    solvers", ICLR 2019, section 3.3 and appendix.

    The paper's learner is for two classes. Here one regression per class separates it from all
    others, and the softmax compares their outputs. As in :class:`R2D2`, a constant 1 is appended to
    the features, λ and α are learned through their logarithms, and a β that cancels is left out.

    Args:
        newton_steps: S; 5 in the paper.
    """

    regression = False

    def __init__(
        self,
        encoder: nn.Module,
        newton_steps: int = 5,
        penalty: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        check_positive("LRD2", newton_steps=newton_steps)
        super().__init__(encoder, penalty, scale)
        self.newton_steps = newton_steps

    def fitted(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return logistic_newton(inputs, targets, self.log_penalty.exp(), self.newton_steps)


@in_full_precision
def logistic_newton(inputs: Tensor, targets: Tensor, penalty: Tensor, steps: int) -> Tensor:
    """Newton's method from zero for Σ_i cross-entropy(y_i, σ(wᵀ x_i)) + λ/2 ‖w‖², each column of Y.

    Args:
        inputs: X, ``[T, N, D]``.
        targets: Y in 0..1, ``[T, N, K]``.
        penalty: λ.
        steps: how many.

    Returns:
        ``[T, D, K]``.
    """
    inputs, y = inputs[:, None], targets.mT  # [T, 1, N, D] and [T, K, N]
    outputs = torch.zeros_like(y)
    for _ in range(steps):
        mean = outputs.sigmoid()
        curvature = (mean * (1 - mean)).clamp(min=LEAST_CURVATURE)
        working = outputs + (y - mean) / curvature
        solution = ridge(inputs, working[..., None], penalty, curvature)  # [T, K, D, 1]
        outputs = (inputs @ solution)[..., 0]
    return solution[..., 0].mT
