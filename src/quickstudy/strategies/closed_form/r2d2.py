"""Ridge regression as a learner (Bertinetto, Henriques, Torr, Vedaldi, 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.solvers import (
    check_positive,
    linear,
    linear_classifier,
    ridge,
    target_matrix,
    with_constant,
)
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class R2D2(EmbeddingStrategy):
    """Ridge regression from features to one-hot targets, its penalty and scale learned.

        W = Xᵀ (X Xᵀ + λ I)⁻¹ Y,   ŷ = α f(x; φ)ᵀ W

    Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form solvers",
    ICLR 2019, section 3.2. As in the paper's code a constant 1 stands after the features,
    whose row of W is a bias, penalised like the others. Where a feature has fewer numbers than
    there are examples, the equal W = (Xᵀ X + λ I)⁻¹ Xᵀ Y is computed.

    What differs: α is learned as exp(log α), as λ is in the paper; and the paper adds a learned β
    to all outputs, which is left out, as it cancels in the softmax. In regression the targets are
    fitted as they are, and α is 1.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        penalty: λ at the start of meta-training.
        scale: α at the start of meta-training.
    """

    paper = "Bertinetto, Henriques, Torr, Vedaldi, 2019"
    regression = True

    def __init__(self, encoder: nn.Module, penalty: float = 1.0, scale: float = 5.0) -> None:
        super().__init__(encoder)
        check_positive("R2D2", penalty=penalty, scale=scale)
        self.penalty = penalty
        self.scale = scale
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        targets = target_matrix(support, ways)
        solution = ridge(with_constant(support.inputs), targets, self.log_penalty.exp())
        if not support.targets.is_floating_point():
            solution = self.log_scale.exp() * solution
        return linear_classifier(solution)

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])
