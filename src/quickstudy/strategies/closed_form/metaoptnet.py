"""A support vector machine as a learner (Lee, Maji, Ravichandran, Soatto, 2019)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.episodes import Examples
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.solvers import check_positive, linear, positive_factor, widest
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

ITERATIONS = 50
"""Most problems take 15 to 25."""

SMOOTHING = 1e-8
"""Slackness at which the interior-point method stops, relative to C."""

CENTERING = 0.1
KEPT = 0.01


class MetaOptNet(EmbeddingStrategy):
    """A linear multi-class support vector machine, differentiated at its optimum.

        min over w, ξ of  ½ Σ_k ‖w_k‖² + C Σ_n ξ_n
        subject to  (w_{y_n} − w_k)ᵀ f(x_n; φ) ≥ 1 − [k = y_n] − ξ_n  for all n, k
        ŷ_k = γ w_kᵀ f(x; φ)

    Lee, Maji, Ravichandran, Soatto, "Meta-Learning with Differentiable Convex Optimization", CVPR
    2019, equations 8 to 11 (Crammer and Singer's machine, without bias). The dual is solved, whose
    size does not depend on the length of the features (:func:`crammer_singer`), and differentiated
    through its Karush-Kuhn-Tucker conditions, as in the paper. γ is learned through its logarithm.

    What differs from the authors' program: to help its solver, it adds 1 to the diagonal of the
    dual's quadratic form, that is ½ Σ_nk α_nk² to the objective. This is the machine for examples
    that each have one more feature, of length 1 and shared with no other; predictions do not have
    it. It changes little where |f(x)|² is much greater than 1, and a lot where features are short.
    That solver stops after 15 iterations; here the dual is solved to a slackness of 1e-8 C. The
    program trains with label smoothing of 0.1; here there is none.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.
        regularization: C, the price of an example on the wrong side; 0.1 in the paper.
        scale: γ at the start of meta-training.
    """

    paper = "Lee, Maji, Ravichandran, Soatto, 2019"

    def __init__(self, encoder: nn.Module, regularization: float = 0.1, scale: float = 1.0) -> None:
        super().__init__(encoder)
        check_positive("MetaOptNet", regularization=regularization, scale=scale)
        self.regularization = regularization
        self.scale = scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        weight = support_vectors(support.inputs, support.targets, ways, self.regularization)
        return {"weight": self.log_scale.exp() * weight}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"])


@in_full_precision
def support_vectors(features: Tensor, targets: Tensor, ways: int, regularization: float) -> Tensor:
    """The machine's w ``[T, ways, D]`` for features ``[T, N, D]`` and targets ``[T, N]``."""
    wide = widest(features)
    dual = crammer_singer(wide @ wide.mT, F.one_hot(targets, ways), regularization)
    return dual.mT.to(features.dtype) @ features


def crammer_singer(gram: Tensor, members: Tensor, regularization: float) -> Tensor:
    """The solution α of the dual, so that w_k = Σ_n α_nk x_n.

        min over α of  ½ Σ_k α_kᵀ G α_k − Σ_nk Y_nk α_nk
        subject to  α_nk ≤ C Y_nk,   Σ_k α_nk = 0

    By a primal-dual interior-point method: Newton steps on the optimality conditions

        G α_k − y_k + λ_k + ν = 0,   Σ_k α_k = 0,   λ (C Y − α) = μ,   λ, C Y − α > 0

    while μ falls to 1e-8 C. The solution is then within N K μ of the best objective, and a smooth
    function of G. At it a last Newton step, in which G is no constant but the inverted matrix is,
    has the gradient of the implicit function that the conditions define.

    Args:
        gram: G = X Xᵀ, ``[T, N, N]``, in float64: slacks span ten orders of magnitude at the end.
        members: Y, one-hot classes ``[T, N, K]``.
        regularization: C.

    Returns:
        ``[T, N, K]``.
    """
    # Where features are shorter than N, rounding would leave G with eigenvalues below zero.
    rounding = torch.finfo(gram.dtype).eps * gram.detach().diagonal(dim1=1, dim2=2).sum(1)
    gram = gram + rounding[:, None, None] * torch.eye(gram.shape[1]).to(gram)
    problem = _Dual(gram.detach(), members.mT.to(gram), regularization)
    with torch.no_grad():
        state = problem.start()
        for _ in range(ITERATIONS):
            gap = (state.multipliers * problem.slacks(state)).mean((1, 2), keepdim=True)
            target = (CENTERING * gap).clamp(min=problem.smoothing)
            residuals = problem.residuals(state, target)
            if problem.is_solved(residuals, target):
                break
            state = problem.moved(state, problem.direction(state, residuals), KEPT)
    last = problem._replace(gram=gram)
    residuals = last.residuals(state, gram.new_tensor(problem.smoothing))
    return (state.alpha + problem.direction(state, residuals).alpha).mT


class _State(NamedTuple):
    """Where the method stands, or a step from there.

    Args:
        alpha: α, ``[T, K, N]``.
        multipliers: λ, ``[T, K, N]``.
        shared: ν, ``[T, 1, N]``.
    """

    alpha: Tensor
    multipliers: Tensor
    shared: Tensor


class _Dual(NamedTuple):
    """T problems: G ``[T, N, N]``, Y ``[T, K, N]`` and C."""

    gram: Tensor
    members: Tensor
    regularization: float

    @property
    def smoothing(self) -> float:
        """The last μ."""
        return SMOOTHING * self.regularization

    def start(self) -> _State:
        """Strictly inside, the same for every example and class."""
        ways = self.members.shape[1]
        alpha = self.regularization * (self.members - 1 / ways)
        return _State(alpha, torch.ones_like(alpha), torch.zeros_like(alpha[:, :1]))

    def slacks(self, state: _State) -> Tensor:
        return self.regularization * self.members - state.alpha

    def residuals(self, state: _State, target: Tensor) -> _State:
        """By how much the conditions are missed, each by the variable that it moves."""
        alpha, multipliers, shared = state
        return _State(
            alpha @ self.gram - self.members + multipliers + shared,
            multipliers * self.slacks(state) - target,
            alpha.sum(1, keepdim=True),
        )

    def is_solved(self, residuals: _State, target: Tensor) -> bool:
        """Whether the last μ is reached and the conditions hold for it."""
        small = 1e-3 * self.smoothing
        return bool((target <= self.smoothing).all()) and all(
            float(each.abs().max()) < small for each in residuals
        )

    def direction(self, state: _State, residuals: _State) -> _State:
        """The Newton step: for each class an N x N system, and one that couples them."""
        slacks = self.slacks(state)
        curvature = state.multipliers / slacks
        factors = positive_factor(self.gram[:, None] + torch.diag_embed(curvature))
        inverses = torch.cholesky_inverse(factors)  # [T, K, N, N]
        right = residuals.multipliers / slacks - residuals.alpha  # [T, K, N]
        free = (inverses @ right[..., None])[..., 0]
        coupling = (free.sum(1, keepdim=True) + residuals.shared).mT  # [T, N, 1]
        shared = torch.cholesky_solve(coupling, positive_factor(inverses.sum(1))).mT
        alpha = free - (inverses @ shared[..., None])[..., 0]
        multipliers = curvature * alpha - residuals.multipliers / slacks
        return _State(alpha, multipliers, shared)

    def moved(self, state: _State, step: _State, kept: float) -> _State:
        """The longest step up to 1 that leaves λ and the slacks positive, for each task."""

        def longest(value: Tensor, change: Tensor) -> Tensor:
            ratio = torch.where(change < 0, -value / change, torch.inf)
            return ((1 - kept) * ratio.amin((1, 2), keepdim=True)).clamp(max=1.0)

        first = longest(self.slacks(state), -step.alpha)
        second = longest(state.multipliers, step.multipliers)
        length = torch.minimum(first, second)
        return _State(*(value + length * change for value, change in zip(state, step, strict=True)))
