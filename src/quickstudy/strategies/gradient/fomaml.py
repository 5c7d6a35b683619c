"""First-order MAML (Finn, Abbeel, Levine, 2017)."""

from __future__ import annotations

from typing import Unpack

from torch import nn

from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, InnerLoop


class FOMAML(GradientStrategy):
    """MAML whose meta-gradient is the plain gradient of the query's loss at the adapted θ.

        θ_0 = φ,   θ_{s+1} = θ_s − α ∇ L(support; θ_s),   φ ← φ − η Σ_tasks ∇_θ L(query; θ_S)

    Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
    2017, section 5.2, "first-order approximation": dθ_S/dφ is replaced by the identity, so no
    second derivative is computed and no inner step is held in memory.

    Batch normalisation: the paper normalises the queries of a task by their own joint statistics
    (``transductive=True``). By default queries are normalised by the statistics of the support at
    θ_S, and the gradient flows through these statistics too.

    Args:
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Finn, Abbeel, Levine, 2017"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        **inner_loop: Unpack[InnerLoop],
    ) -> None:
        super().__init__(
            encoder, ways, inner_steps, inner_learning_rate, first_order=True, **inner_loop
        )
