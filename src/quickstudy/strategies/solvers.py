"""Linear algebra that strategies share: few examples, long features, many tasks at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import in_full_precision


@in_full_precision
def ridge(
    inputs: Tensor, targets: Tensor, penalty: Tensor | float, weights: Tensor | None = None
) -> Tensor:
    """The W that makes Σ_i r_i ‖y_i − Wᵀ x_i‖² + λ ‖W‖² smallest.

        W = (Xᵀ R X + λ I)⁻¹ Xᵀ R Y  =  Xᵀ √R (√R X Xᵀ √R + λ I)⁻¹ √R Y

    The system that is solved is the smaller one of the two: D x D, or N x N where there are fewer
    examples than numbers in a feature (the Woodbury identity). Gradients flow into every argument.

    Args:
        inputs: X, ``[..., N, D]``; an example of zeros counts for nothing.
        targets: Y, ``[..., N, K]``.
        penalty: λ > 0, a number or a tensor ``[...]``.
        weights: r ≥ 0, ``[..., N]``; ones by default. A zero leaves its example out, but has no
            gradient.

    Returns:
        ``[..., D, K]``; leading axes are broadcast against each other.

    Raises:
        ValueError: when the system is singular to rounding.
    """
    examples, size = inputs.shape[-2:]
    root = None if weights is None else weights.sqrt()[..., None]
    if examples < size:
        gram = inputs @ inputs.mT
        if root is None:
            return _combined(inputs, solve_positive(_shifted(gram, penalty), targets))
        system = _shifted(root * gram * root.mT, penalty)
        return _combined(inputs, root * solve_positive(system, root * targets))
    if root is not None:
        inputs, targets = root * inputs, root * targets
    return solve_positive(_shifted(inputs.mT @ inputs, penalty), inputs.mT @ targets)


@in_full_precision
def ridge_left_out(inputs: Tensor, targets: Tensor, penalty: Tensor | float) -> Tensor:
    """What :func:`ridge` says of each example when it learns from the others, without doing so.

        ŷ_{−i} = y_i − (y_i − ŷ_i) / (1 − H_ii),   H = X (Xᵀ X + λ I)⁻¹ Xᵀ,   Ŷ = H Y

    Args:
        inputs: X, ``[..., N, D]``.
        targets: Y, ``[..., N, K]``.
        penalty: λ > 0, a number or a tensor ``[...]``.

    Returns:
        Ŷ without each, ``[..., N, K]``.
    """
    each = torch.eye(inputs.shape[-2], dtype=inputs.dtype, device=inputs.device)
    hat = inputs @ ridge(inputs, each.expand(*inputs.shape[:-2], -1, -1), penalty)
    free = 1 - hat.diagonal(dim1=-2, dim2=-1)[..., None]
    # H_ii is below 1, but rounding may bring it there where λ is very small.
    return targets - (targets - hat @ targets) / free.clamp(min=torch.finfo(free.dtype).eps)


def solve_positive(system: Tensor, right: Tensor) -> Tensor:
    """A⁻¹ B of a symmetric positive definite A ``[..., n, n]`` and B ``[..., n, m]``.

    Raises:
        ValueError: when A is not positive definite to rounding.
    """
    return torch.cholesky_solve(right, positive_factor(system))


def positive_factor(system: Tensor) -> Tensor:
    """The Cholesky factor of a symmetric positive definite matrix ``[..., n, n]``.

    Raises:
        ValueError: when it is not positive definite to rounding.
    """
    try:
        factor: Tensor = torch.linalg.cholesky(system)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise InputError(
            "A linear system of the support is singular to rounding, or its features are not "
            "finite: use a larger penalty, or features that are shorter."
        ) from error
    return factor


def _combined(inputs: Tensor, coefficients: Tensor) -> Tensor:
    """Xᵀ A; stored as Aᵀ X, in which a class's numbers lie together, as products with it want."""
    return (coefficients.mT @ inputs).mT


def _shifted(matrix: Tensor, penalty: Tensor | float) -> Tensor:
    """A matrix plus λ I."""
    if isinstance(penalty, Tensor):
        penalty = penalty[..., None]
    diagonal = torch.zeros_like(matrix[..., 0, :]) + penalty
    return matrix + torch.diag_embed(diagonal)


def with_constant(features: Tensor) -> Tensor:
    """Features ``[..., D]`` with a 1 after them, ``[..., D + 1]``, whose weight is a bias."""
    return F.pad(features, (0, 1), value=1.0)


def target_matrix(support: Examples, ways: int) -> Tensor:
    """What a linear model is fitted to, ``[T, N, ways]``: one-hot classes, or the numbers."""
    targets, dtype = support.targets, support.inputs.dtype
    if targets.is_floating_point():
        return targets.to(dtype)
    return F.one_hot(targets, ways).to(dtype)


def widest(x: Tensor) -> Tensor:
    """``x`` in float64, for solvers that subtract nearly equal numbers; not on Apple's GPUs."""
    return x.float() if x.device.type == "mps" else x.double()


@in_full_precision
def linear(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Outputs ``[T, Q, K]`` of features ``[T, Q, D]``: weight ``[T, K, D]``, bias ``[T, K]``."""
    if bias is None:
        return features @ weight.mT
    return torch.baddbmm(bias[:, None], features, weight.mT)


def linear_classifier(solution: Tensor) -> dict[str, Tensor]:
    """θ of the linear classifier ``[T, D + 1, K]`` of features with a constant after them."""
    return {"weight": solution[:, :-1].mT, "bias": solution[:, -1]}


def check_positive(strategy: str, **numbers: float) -> None:
    """Refuses arguments that must be more than 0 and are not."""
    for name, value in numbers.items():
        if not value > 0:
            raise InputError(f"{strategy}'s {name} is {value}; it must be more than 0.")
