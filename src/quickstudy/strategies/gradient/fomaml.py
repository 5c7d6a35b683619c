"""First-order MAML (Finn, Abbeel, Levine, 2017)."""

from __future__ import annotations

from torch import nn

from quickstudy.strategies.gradient.gradient_strategy import GradientStrategy


class FOMAML(GradientStrategy):
    """MAML whose meta-gradient is the plain gradient of the query's loss, taken where θ arrived.

        θ_0 = φ,   θ_{s+1} = θ_s − α ∇ L(support; θ_s),   φ ← φ − η Σ_tasks ∇_θ L(query; θ_S)

    Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
    2017, section 5.2, "first-order approximation": dθ_S/dφ is taken for the identity, so that no
    second derivative is computed and no inner step is held in memory.

    Batch normalisation: the paper normalises the queries of a task by their own joint statistics
    (``transductive=True``). By default queries are normalised by the statistics of the support at
    θ_S, through which the gradient flows too.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. In the
            strategy, its batch normalisation uses each task's statistics (``TaskBatchNorm``).
        ways: classes in a task (the length of a target in regression); the start has a linear
            output for each.
        inner_steps: gradient steps S in meta-training.
        test_inner_steps: gradient steps in use; as many as in training by default.
        inner_learning_rate: the step size α.
        transductive: normalise queries by their own batch, as the paper's experiments do.
    """

    paper = "Finn, Abbeel, Levine, 2017"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        test_inner_steps: int | None = None,
        inner_learning_rate: float = 0.4,
        transductive: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            ways,
            inner_steps,
            test_inner_steps,
            inner_learning_rate,
            first_order=True,
            transductive=transductive,
        )
