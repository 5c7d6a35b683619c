"""Prototypical networks (Snell, Swersky, Zemel, 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import Distance, check_distance, class_means, similarity
from quickstudy.strategies.strategy import EmbeddingStrategy, LinearHead, Theta


class PrototypicalNetwork(EmbeddingStrategy):
    """Each class is the mean of its embedded examples; a query belongs to the nearest mean.

        c_k = mean of f(x_i; φ) over the support of class k,   p(y = k | x) ∝ exp(−d(f(x; φ), c_k))

    Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equations
    1 and 2.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        distance: "euclidean" (squared, as in the paper) or "cosine", whose logits are the cosine
            times ``scale``.
        scale: multiplies the logits: the paper's 1 for euclidean; 10 is usual for cosine.

    Example:
        >>> import torch
        >>> from quickstudy.episodes import Examples
        >>> support = Examples(torch.tensor([[[0.0], [2.0], [9.0]]]), torch.tensor([[0, 0, 1]]))
        >>> strategy = PrototypicalNetwork(torch.nn.Identity())
        >>> theta = strategy.adapt(support, ways=2)
        >>> theta["prototypes"].flatten().tolist()
        [1.0, 9.0]
        >>> strategy.predict(theta, torch.tensor([[[3.0]]])).tolist()  # −(3 − 1)², −(3 − 9)²
        [[[-4.0, -36.0]]]
    """

    paper = "Snell, Swersky, Zemel, 2017"

    def __init__(
        self, encoder: nn.Module, distance: Distance = "euclidean", scale: float = 1.0
    ) -> None:
        super().__init__(encoder)
        check_distance(distance)
        self.distance = distance
        self.scale = scale

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"prototypes": class_means(support.inputs, support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return self.scale * similarity(features, theta["prototypes"], self.distance)

    def linear_head(self, theta: Theta) -> LinearHead | None:
        if self.distance != "euclidean":
            return None
        prototypes = theta["prototypes"]
        bias = -self.scale * prototypes.square().sum(-1)
        return LinearHead(2 * self.scale * prototypes, bias, square=self.scale)
