"""PT-MAP (Hu, Gripon, Pateux, 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.transductive_strategy import (
    TransductiveStrategy,
    check_steps,
    weighted_means,
)
from quickstudy.strategies.functional import similarity
from quickstudy.strategies.solvers import check_positive

SMALLEST = 1e-6
"""Added to features before they are raised to a power, as in the paper."""

SWEEPS = 1000
"""Sinkhorn iterations at most; tens are usual."""


class PTMAP(TransductiveStrategy):
    """Features made more Gaussian, and class centres that share the queries evenly.

        z = (f(x) + ε)^β / ‖(f(x) + ε)^β‖,   then less its set's mean, and of length one again

        M = argmin over M of  Σ_qk M_qk ‖z_q − c_k‖² − H(M) / λ,   Σ_k M_qk = 1,   Σ_q M_qk = Q / K
        c_k ← c_k + α (μ_k − c_k),   μ_k = mean of z over the support of class k and, by M, queries

    from the means of the support on. M is an optimal transport with entropy H, found by Sinkhorn's
    algorithm: exp(−λ ‖z_q − c_k‖²) with rows and columns scaled in turn. After the last step it is
    the answer. The second condition says that all classes have equally many queries: this is what
    the method knows of balanced tasks, and where unbalanced ones hurt it.

    Hu, Gripon, Pateux, "Leveraging the Feature Distribution in Transfer-based Few-Shot Learning",
    ICANN 2021, sections 3.2 and 3.3, algorithm 1; the means are taken off support and queries each
    by itself, as the authors' program does. The paper's features end in a ReLU; of one that is
    negative the magnitude is raised, and it keeps its sign.

    Args:
        power: β; the paper's 0.5, and 1 leaves features as they are.
        sharpness: λ; the paper's 10.
        step_size: α; the paper's 0.2 to 0.4.
        steps: updates of the centres; the paper's 20.
    """

    paper = "Hu, Gripon, Pateux, 2021"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        power: float = 0.5,
        sharpness: float = 10.0,
        step_size: float = 0.2,
        steps: int = 20,
    ) -> None:
        super().__init__(encoder, classes)
        check_positive("PTMAP", power=power, sharpness=sharpness)
        check_steps("PTMAP", steps)
        if not 0 < step_size <= 1:
            raise InputError(
                f"PTMAP's step_size is {step_size}; it must be more than 0 and at most 1, which "
                "goes all the way to the new centres."
            )
        self.power = power
        self.sharpness = sharpness
        self.step_size = step_size
        self.steps = steps

    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        support, queries = (
            F.normalize(each - each.mean(1, keepdim=True), dim=-1)
            for each in (powered(support, self.power), powered(queries, self.power))
        )
        everyone = torch.cat([support, queries], dim=1)
        centres = weighted_means(members, support)
        potentials = centres.new_zeros(len(centres), 1, centres.shape[1])
        for step in range(self.steps + 1):
            near = self.sharpness * similarity(queries, centres, "euclidean")
            plan, potentials = sinkhorn(near, potentials)
            if step < self.steps:
                means = weighted_means(torch.cat([members, plan.exp()], dim=1), everyone)
                centres = centres + self.step_size * (means - centres)
        return plan


def powered(features: Tensor, power: float) -> Tensor:
    """Features ``[..., D]`` raised to a power and brought to length one."""
    signs = torch.where(features < 0, -1.0, 1.0).to(features)
    return F.normalize(signs * (features.abs() + SMALLEST).pow(power), dim=-1)


def sinkhorn(scores: Tensor, potentials: Tensor) -> tuple[Tensor, Tensor]:
    """The log M of M_qk ∝ exp(scores + potentials) whose rows sum to 1 and whose columns are equal.

    In logarithms, so that nothing vanishes; the columns' sums are right to about their rounding.

    Args:
        scores: ``[T, Q, K]``.
        potentials: ``[T, 1, K]``, of the columns, to begin with.

    Returns:
        log M ``[T, Q, K]``, and the potentials of which it was made.
    """
    wanted = math.log(scores.shape[1] / scores.shape[2])
    tolerance = torch.finfo(scores.dtype).eps ** 0.75
    plan = (scores + potentials).log_softmax(-1)
    for _ in range(SWEEPS):
        excess = plan.logsumexp(1, keepdim=True) - wanted
        wrong = excess.abs().amax(2, keepdim=True) > tolerance
        if not wrong.any():
            break
        # A task that is right stays, so that how it ends does not depend on those beside it.
        potentials = torch.where(wrong, potentials - excess, potentials)
        plan = (scores + potentials).log_softmax(-1)
    return plan, potentials
