"""Meta-Baseline (Chen, Liu, Xu, Darrell, Wang, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import class_means, similarity
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class MetaBaseline(EmbeddingStrategy):
    """Cosine to the class means, on an encoder that first learned by ordinary classification.

        w_k = mean of f(x_i; φ) over the support of class k
        p(y = k | x) ∝ exp(τ cos(f(x; φ), w_k))

    The encoder and τ are then trained on tasks. The first stage is a run of its own, with any
    strategy that learns from batches of all training classes; this one starts from it
    (``start_from`` of the trainer). Without meta-training it is the paper's Classifier-Baseline.

    Chen, Liu, Xu, Darrell, Wang, "Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot
    Learning", ICCV 2021, sections 3.2 and 3.3.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        scale: what the learned τ starts from; 10 in the paper.
    """

    paper = "Chen, Liu, Xu, Darrell, Wang, 2021"

    def __init__(self, encoder: nn.Module, scale: float = 10.0) -> None:
        super().__init__(encoder)
        if not scale > 0:
            raise InputError(
                f"The scale is {scale}, and the nearest class would not be the likeliest; give "
                "more than 0, such as the paper's 10."
            )
        self.scale = scale
        self.tau = nn.Parameter(torch.tensor(float(scale)))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"class_means": class_means(support.inputs, support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return self.tau * similarity(features, theta["class_means"], "cosine")
