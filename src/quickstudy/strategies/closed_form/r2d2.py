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
    """Ridge regression from features to one-hot targets, with a learned penalty and scale.

        W = Xᵀ (X Xᵀ + λ I)⁻¹ Y,   ŷ = α f(x; φ)ᵀ W

    Bertinetto, Henriques, Torr, Vedaldi, "Meta-learning with differentiable closed-form solvers",
    ICLR 2019, section 3.2. As in the paper's code, a constant 1 is appended to the features;
    its row of W is a bias, penalised like the others. If features are shorter than the number of
    examples, W is computed as (Xᵀ X + λ I)⁻¹ Xᵀ Y, which is equal.

    Differs from the paper: α is learned through its logarithm, as λ is in the paper. The paper's
    learned β, added to all outputs, is left out because it cancels in the softmax. In regression
    the targets are fitted unscaled (α = 1).

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        penalty: λ at the start of meta-training.
        scale: α at the start of meta-training.

    Example:
        >>> from quickstudy.episodes import Examples
        >>> inputs = torch.tensor([[[-1.0], [0.0], [1.0]]])
        >>> support = Examples(inputs, 2 * inputs + 1)  # numbers: y = 2 x + 1
        >>> strategy = R2D2(nn.Identity(), penalty=1e-6)
        >>> theta = strategy.adapt(support, ways=1)
        >>> strategy.predict(theta, torch.tensor([[[3.0]]])).round(decimals=3).tolist()
        [[[7.0]]]
    """

    paper = "Bertinetto, Henriques, Torr, Vedaldi, 2019"
    regression = True

    def __init__(self, encoder: nn.Module, penalty: float = 1.0, scale: float = 5.0) -> None:
        super().__init__(encoder)
        check_positive(type(self).__name__, penalty=penalty, scale=scale)
        self.penalty = penalty
        self.scale = scale
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        solution = self.fitted(with_constant(support.inputs), target_matrix(support, ways))
        if not support.targets.is_floating_point():
            solution = self.log_scale.exp() * solution
        return linear_classifier(solution)

    def fitted(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """W ``[T, D, K]`` of inputs ``[T, N, D]`` and targets ``[T, N, K]``, before scaling."""
        return ridge(inputs, targets, self.log_penalty.exp())

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])
