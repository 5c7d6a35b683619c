"""Meta-SGD (Li, Zhou, Chen, Li, 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, RecomputableLoop


class MetaSGD(GradientStrategy):
    """MAML that also learns a step size for every single parameter.

        φ = (θ_0, α),   θ_{s+1} = θ_s − α ∘ ∇ L(support; θ_s)

    α has the shape of θ: it sets how far a task's gradient moves the learner and, by its signs and
    proportions, in which direction. The paper takes one step.

    Li, Zhou, Chen, Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017,
    arXiv 1707.09835, equation 3 and algorithm 1. As there, the rates start at random, uniformly
    between ``least_inner_rate`` and ``most_inner_rate``.

    Args:
        least_inner_rate: the lowest rate at the start.
        most_inner_rate: the highest rate at the start.
        first_order: leave out second derivatives; the rates are learned all the same.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Li, Zhou, Chen, Li, 2017"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        least_inner_rate: float = 0.005,
        most_inner_rate: float = 0.1,
        **inner_loop: Unpack[RecomputableLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, **inner_loop)
        if not 0 <= least_inner_rate <= most_inner_rate:
            raise InputError(
                f"Rates cannot start between {least_inner_rate} and {most_inner_rate}; give a "
                "least_inner_rate of at least 0 and a most_inner_rate that is not below it."
            )
        self.least_inner_rate = least_inner_rate
        self.most_inner_rate = most_inner_rate
        self.rates = nn.ParameterList(
            torch.empty_like(each).uniform_(least_inner_rate, most_inner_rate)
            for each in self.start().values()
        )

    def learned(self) -> Sequence[Tensor]:
        return tuple(self.rates)
