"""Linear algebra against dense formulas, in float64."""

import pytest
import torch

from quickstudy.episodes import Examples
from quickstudy.strategies.solvers import (
    check_positive,
    linear,
    ridge,
    solve_positive,
    target_matrix,
    with_constant,
)

# The same systems solved in another way, well conditioned: rounding of float64 alone.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def numbers(*shape, seed=0):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).requires_grad_()


def by_the_formula(x, y, penalty, weights):
    """(Xᵀ R X + λ I)⁻¹ Xᵀ R Y of one problem."""
    weighted = weights[:, None] * x
    return torch.linalg.inv(x.T @ weighted + penalty * torch.eye(x.shape[1]).double()) @ (
        weighted.T @ y
    )


@pytest.mark.parametrize("size", [3, 5, 40], ids=["D < N", "D = N", "D > N"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_ridge_is_its_normal_equation_for_every_shape(size, weighted):
    x, y = numbers(4, 5, size), numbers(4, 5, 2, seed=1)
    weights = numbers(4, 5, seed=2).abs() + 0.1 if weighted else None
    got = ridge(x, y, 0.3, weights)
    for task in range(4):
        r = weights[task] if weighted else torch.ones(5).double()
        torch.testing.assert_close(got[task], by_the_formula(x[task], y[task], 0.3, r), **SAME)


@pytest.mark.parametrize("size", [2, 6], ids=["D < N", "D > N"])
def test_gradients_flow_into_every_argument_of_ridge(size):
    x, y, penalty = numbers(2, 3, size), numbers(2, 3, 2, seed=1), torch.tensor(0.5).double()
    weights = numbers(2, 3, seed=2).detach().abs() + 0.2
    torch.autograd.gradcheck(ridge, (x, y, penalty.requires_grad_(), weights.requires_grad_()))
    torch.autograd.gradcheck(ridge, (x, y, torch.tensor([0.5, 2.0]).double().requires_grad_()))


@pytest.mark.parametrize("size", [2, 8], ids=["D < N", "D > N"])
def test_an_example_of_weight_zero_or_of_zeros_counts_for_nothing(size):
    x, y = numbers(2, 4, size).detach(), numbers(2, 4, 3, seed=1).detach()
    expected = ridge(x[:, :3], y[:, :3], 0.7)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0]).double().expand(2, 4)
    torch.testing.assert_close(ridge(x, y, 0.7, weights), expected, **SAME)
    masked = weights[..., None] * x
    torch.testing.assert_close(ridge(masked, y, 0.7), expected, **SAME)


def test_a_penalty_for_each_problem():
    x, y = numbers(2, 3, 5), numbers(2, 3, 2, seed=1)
    got = ridge(x, y, torch.tensor([0.1, 4.0]).double())
    for task, penalty in enumerate((0.1, 4.0)):
        torch.testing.assert_close(got[task], ridge(x[task], y[task], penalty), **SAME)


def test_leading_axes_are_broadcast():
    x, y = numbers(2, 1, 3, 5), numbers(2, 4, 3, 1, seed=1)
    weights = numbers(2, 4, 3, seed=2).detach().abs()
    got = ridge(x, y, 0.5, weights)
    assert got.shape == (2, 4, 5, 1)
    torch.testing.assert_close(got[1, 2], ridge(x[1, 0], y[1, 2], 0.5, weights[1, 2]), **SAME)


def test_half_precision_is_solved_in_float32():
    x, y = numbers(2, 3, 5).detach().bfloat16(), numbers(2, 3, 2).detach().bfloat16()
    torch.testing.assert_close(ridge(x, y, 0.5), ridge(x.float(), y.float(), 0.5))
    with torch.autocast("cpu", torch.bfloat16):
        assert ridge(x, y, 0.5).dtype == torch.float32


def test_a_singular_system_is_a_plain_error():
    with pytest.raises(ValueError, match=r"singular to rounding.*use a larger penalty"):
        ridge(torch.ones(1, 3, 5), torch.ones(1, 3, 1), 0.0)
    with pytest.raises(ValueError, match="not finite"):
        solve_positive(torch.full((2, 2), torch.nan), torch.ones(2, 1))


def test_a_constant_stands_after_the_features():
    assert with_constant(torch.tensor([[2.0, 3.0]])).tolist() == [[2.0, 3.0, 1.0]]


def test_targets_are_one_hot_classes_or_the_numbers_themselves():
    inputs = torch.zeros(1, 2, 4).double()
    classes = target_matrix(Examples(inputs, torch.tensor([[1, 0]])), 3)
    assert classes.tolist() == [[[0, 1, 0], [1, 0, 0]]]
    assert classes.dtype == torch.float64
    values = torch.tensor([[[0.5], [2.0]]])
    assert torch.equal(target_matrix(Examples(inputs, values), 1), values.double())


def test_linear_outputs_with_and_without_bias():
    x, weight, bias = numbers(2, 3, 4), numbers(2, 5, 4, seed=1), numbers(2, 5, seed=2)
    expected = torch.einsum("tqd,tkd->tqk", x, weight)
    torch.testing.assert_close(linear(x, weight), expected)
    torch.testing.assert_close(linear(x, weight, bias), expected + bias[:, None])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_numbers_that_must_be_positive_are_checked(value):
    with pytest.raises(ValueError, match=r"R2D2's penalty is .*; it must be more than 0"):
        check_positive("R2D2", scale=1.0, penalty=value)
