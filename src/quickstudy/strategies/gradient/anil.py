"""Almost no inner loop (Raghu, Raghu, Bengio, Vinyals, 2020)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.task_normalization import recorded_statistics
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, SecondOrderLoop
from quickstudy.strategies.bases.inner_loop import descend
from quickstudy.strategies.functional import task_loss
from quickstudy.strategies.strategy import Theta


class ANIL(GradientStrategy):
    """MAML whose inner loop adapts only the head: all tasks share the encoder's features.

        z = f(x; φ_body),   h_0 = φ_head,   h_{s+1} = h_s − α ∇_h L(h_s z over the support)

    The features of the support do not change from step to step, so they are computed once: inner
    steps cost next to nothing, second derivatives included.

    Raghu, Raghu, Bengio, Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the
    Effectiveness of MAML", ICLR 2020, section 4.

    Batch normalisation: the paper normalises queries by their own joint statistics
    (``transductive=True``). By default they are normalised by the statistics of the support, which
    are the only part of the encoder that depends on the task.

    Args:
        encoder: the body; maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states
            ``out_features``.
        first_order: leave out second derivatives; the encoder then learns from the query alone.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Raghu, Raghu, Bengio, Vinyals, 2020"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 5,
        inner_learning_rate: float = 0.1,
        **inner_loop: Unpack[SecondOrderLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)

    def start(self) -> Theta:
        return {name: each for name, each in super().start().items() if name.startswith("head.")}

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        recording = (
            nullcontext(dict[str, Tensor]())
            if self.transductive
            else recorded_statistics(self.network())
        )
        with recording as statistics:
            features = self.features(inputs, batch_statistics=True)

        def loss(theta: Theta, step: int) -> Tensor:
            outputs = F.linear(features, theta["head.weight"], theta["head.bias"])
            return task_loss(outputs, targets)

        theta = descend(loss, self.start(), self.update, self.steps, first_order=self.first_order)
        return theta | statistics
