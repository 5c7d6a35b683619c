"""LR-D2 against Newton's method written out, and against the optimum that it approaches."""

import pytest
import torch
from torch import nn

from quickstudy.strategies import LRD2
from quickstudy.strategies.closed_form.lrd2 import logistic_newton

# Two ways to write one Newton step in float64; solving systems leaves nine digits and more.
SAME = {"rtol": 1e-8, "atol": 1e-9}


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return LRD2(nn.Flatten(), **arguments).double()


def newton_by_hand(x, y, penalty, steps):
    """w − H⁻¹ g on the penalised loss of one class in one task, H and g dense."""
    w = torch.zeros(x.shape[1]).double()
    for _ in range(steps):
        mean = torch.sigmoid(x @ w)
        slope = x.T @ (mean - y) + penalty * w
        curvature = x.T @ torch.diag(mean * (1 - mean)) @ x + penalty * torch.eye(len(w)).double()
        w = w - torch.linalg.inv(curvature) @ slope
    return w


@pytest.mark.parametrize("size", [2, 20], ids=["short features", "long features"])
@pytest.mark.parametrize("steps", [1, 5])
def test_it_takes_newton_steps_for_each_class_against_the_others(make_episode, size, steps):
    episode = make_episode((size,), shots=[1, 4, 2])
    strategy = plain(newton_steps=steps, penalty=0.5, scale=2.0)
    theta = strategy.adapt(episode.support, 3)
    for task in range(2):
        x = episode.support.inputs[task]
        x = torch.cat([x, torch.ones(len(x), 1).double()], dim=1)
        for k in range(3):
            y = (episode.support.targets[task] == k).double()
            penalty, scale = strategy.log_penalty.exp(), strategy.log_scale.exp()
            expected = scale * newton_by_hand(x, y, penalty, steps)
            torch.testing.assert_close(theta["weight"][task, k], expected[:-1], **SAME)
            torch.testing.assert_close(theta["bias"][task, k], expected[-1], **SAME)


def test_the_first_step_is_a_ridge_regression_solved_by_hand():
    """x = 1 and -1: z = ±2, s = 1/4, so w = 2 · 2/4 / (2/4 + λ) = 1 for λ = 1/2; no bias."""
    x = torch.tensor([[[1.0], [-1.0]]]).double()
    y = torch.tensor([[[1.0], [0.0]]]).double()
    w = logistic_newton(x, y, torch.tensor(0.5).double(), steps=1)
    assert w.item() == pytest.approx(1.0)


def test_many_steps_reach_the_optimum(make_episode):
    episode = make_episode((4,), shots=[3, 5, 4])
    strategy = plain(newton_steps=15, penalty=0.2)
    theta, penalty = strategy.adapt(episode.support, 3), strategy.log_penalty.exp()
    x, targets = episode.support.inputs, episode.support.targets
    logits = x @ theta["weight"].mT + theta["bias"][:, None]
    error = logits.sigmoid() - nn.functional.one_hot(targets, 3)
    # λ w = −Σ_n (μ_n − y_n) x_n where the loss is smallest.
    torch.testing.assert_close(penalty * theta["weight"], -error.mT @ x, **SAME)
    torch.testing.assert_close(penalty * theta["bias"], -error.sum(1), **SAME)


def test_gradients_flow_through_the_steps():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    y = nn.functional.one_hot(torch.tensor([[0, 1, 1, 2], [2, 0, 1, 0]]), 3).double()
    penalty = torch.tensor(0.7).double().requires_grad_()
    torch.autograd.gradcheck(
        lambda x, penalty: logistic_newton(x, y, penalty, 3), (x.requires_grad_(), penalty)
    )


def test_examples_that_are_told_apart_with_ease_stay_finite_in_float32(make_episode):
    episode = make_episode((50,), shots=[5, 5, 5])
    x = (100 * episode.support.inputs).float()
    targets = nn.functional.one_hot(episode.support.targets, 3).float()
    w = logistic_newton(x, targets, torch.tensor(1e-3), steps=10)
    assert w.isfinite().all()
    assert torch.equal((x @ w).argmax(-1), episode.support.targets)


@pytest.mark.parametrize("name", ["newton_steps", "penalty", "scale"])
def test_numbers_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=f"LRD2's {name} is 0; it must be more than 0"):
        plain(**{name: 0})
