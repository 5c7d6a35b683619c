"""What transductive strategies on features have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.pretrained import PretrainedStrategy
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import target_matrix
from quickstudy.strategies.strategy import Theta


class TransductiveStrategy(PretrainedStrategy):
    """An encoder learned by ordinary classification, and inference from all queries of a task.

    Adapting has no queries yet, so θ is the support itself, and predicting does the work. The
    features are taken as they are: nothing is learned from what comes out.
    """

    transductive = True

    @abstractmethod
    def infer(self, support: Tensor, members: Tensor, queries: Tensor) -> Tensor:
        """Logits ``[T, Q, ways]``.

        Args:
            support: features ``[T, N, D]``.
            members: one-hot classes of the support, ``[T, N, ways]``.
            queries: features ``[T, Q, D]``, in any order: a query's logits go where it goes.
        """

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"features": support.inputs, "members": target_matrix(support, ways)}

    @torch.no_grad()
    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return in_full_precision(self.infer)(theta["features"], theta["members"], features)


def weighted_means(weights: Tensor, features: Tensor) -> Tensor:
    """Σ_i p_ik x_i / Σ_i p_ik.

    Args:
        weights: p ≥ 0, how far each example belongs to each class, ``[T, N, ways]``.
        features: x, ``[T, N, D]``.

    Returns:
        ``[T, ways, D]``; zeros for a class without examples.
    """
    totals = weights.sum(1)[:, :, None]
    return weights.mT @ features / totals.clamp(min=torch.finfo(totals.dtype).tiny)


def check_steps(strategy: str, steps: int, least: int = 0) -> None:
    """Refuses a number of steps that is less than ``least``."""
    if steps < least:
        raise InputError(f"{strategy}'s steps is {steps}; it must be {least} or more.")
