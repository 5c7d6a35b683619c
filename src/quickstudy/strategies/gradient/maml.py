"""Model-agnostic meta-learning (Finn, Abbeel, Levine, 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, RecomputableLoop


class MAML(GradientStrategy):
    """θ is reached from a learned start by a few gradient steps on the support.

        θ_0 = φ,   θ_{s+1} = θ_s − α ∇ L(support; θ_s),   φ ← φ − η ∇_φ Σ_tasks L(query; θ_S)

    Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
    2017, algorithm 2; with ``first_order``, ∇_φ treats the inner gradients as constants (section
    5.2).

    Batch normalisation: the paper normalises the queries of a task by their own joint statistics,
    so predictions depend on the other queries (``transductive=True``). By default queries are
    normalised by the statistics of the support, which belong to θ.

    Args:
        learn_inner_rates: learn an α for each parameter tensor, starting at
            ``inner_learning_rate``.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.

    Example:
        >>> import torch
        >>> from quickstudy.encoders import MLP
        >>> from quickstudy.episodes import Examples
        >>> strategy = MAML(MLP((4,), (8,)), ways=3, inner_steps=2)
        >>> labels = torch.tensor([[0, 1, 2], [0, 1, 2]])
        >>> theta = strategy.adapt(Examples(torch.randn(2, 3, 4), labels), ways=3)
        >>> theta["head.weight"].shape  # a head for each of two tasks
        torch.Size([2, 3, 8])
    """

    paper = "Finn, Abbeel, Levine, 2017"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        learn_inner_rates: bool = False,
        **inner_loop: Unpack[RecomputableLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)
        self.learn_inner_rates = learn_inner_rates
        rates = torch.full((len(self.start()),), inner_learning_rate)
        self.rates = nn.Parameter(rates) if learn_inner_rates else None

    def learned(self) -> Sequence[Tensor]:
        return () if self.rates is None else tuple(self.rates)
