"""Body only update in inner loop (Oh, Yoo, Kim, Yun, 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, RecomputableLoop
from quickstudy.strategies.strategy import Theta


class BOIL(GradientStrategy):
    """MAML whose inner loop adapts the encoder (the body) and leaves the head unchanged.

        θ = (b, h),   b_{s+1} = b_s − α_b ∇_b L(support; b_s, h_s),   h_{s+1} = h_s (α_h = 0)

    A fixed head forces the features of a task towards its rows, so representations change instead
    of being reused. The outer loop learns φ = (b_0, h) as in MAML.

    Oh, Yoo, Kim, Yun, "BOIL: Towards Representation Change for Few-shot Learning", ICLR 2021,
    section 3.

    Batch normalisation: the paper normalises queries by their own joint statistics
    (``transductive=True``); by default they are normalised by the statistics of the support.

    Args:
        encoder: the body; maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states
            ``out_features``.
        inner_learning_rate: the step size α_b of the body.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Oh, Yoo, Kim, Yun, 2021"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.5,
        **inner_loop: Unpack[RecomputableLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)

    def update(self, theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
        moved = super().update(theta, gradients, step, learned)
        return {
            name: theta[name] if name.startswith("head.") else each for name, each in moved.items()
        }
