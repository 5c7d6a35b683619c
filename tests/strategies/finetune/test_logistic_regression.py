"""Logistic regression against the conditions of its optimum and another solver."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.episodes import Examples
from quickstudy.strategies import LogisticRegression
from quickstudy.strategies.finetune import logistic_regression
from quickstudy.strategies.finetune.logistic_regression import (
    multinomial_newton,
    regression_weights,
)

# Newton's method stops when probabilities are right to 1e-9.
SOLVED = {"rtol": 1e-7, "atol": 1e-8}


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return LogisticRegression(nn.Flatten(), **arguments).double()


def with_ones(x):
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def as_solved(support, theta):
    """What stands before the weights of features that keep their lengths, and those weights."""
    centre = support.inputs.mean(1, keepdim=True)
    bias = theta["bias"] + (theta["weight"] * centre).sum(-1)
    return with_ones(support.inputs - centre), torch.cat([theta["weight"], bias[..., None]], 2).mT


@pytest.mark.parametrize("size", [2, 40], ids=["short features", "long features"])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_gradient_of_the_objective_is_zero(make_episode, size, penalty, normalize):
    support = make_episode((size,), shots=[1, 6, 3], tasks=3).support
    strategy = plain(penalty=penalty, normalize=normalize)
    theta = strategy.adapt(support, 3)
    x, w = as_solved(support, theta)
    if normalize:
        x = with_ones(F.normalize(support.inputs, dim=-1))
        w = torch.cat([theta["weight"], theta["bias"][..., None]], dim=2).mT
    w.requires_grad_()
    losses = F.cross_entropy((x @ w).flatten(0, 1), support.targets.flatten(), reduction="sum")
    objective = losses + penalty / 2 * w.square().sum()
    (slope,) = torch.autograd.grad(objective, w)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-7)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_it_agrees_with_another_solver(make_episode, penalty):
    linear_model = pytest.importorskip("sklearn.linear_model")
    support = make_episode((6,), shots=[2, 5, 4]).support
    x, w = as_solved(support, plain(penalty=penalty, normalize=False).adapt(support, 3))
    for task in range(2):
        other = linear_model.LogisticRegression(
            C=1 / penalty, fit_intercept=False, tol=1e-12, max_iter=100_000
        ).fit(x[task].numpy(), support.targets[task].numpy())
        # The other stops when its own objective stops changing.
        expected = torch.from_numpy(other.coef_)
        torch.testing.assert_close(w[task].mT, expected, rtol=1e-4, atol=1e-5)


def test_two_examples_solved_by_hand():
    """x = 1 and -1 of two classes: w solves λ w = 1 - σ(2w) for each example, so 2 of them."""
    support = Examples(torch.tensor([[[1.0], [-1.0]]]).double(), torch.tensor([[0, 1]]))
    penalty = 2 * (1 - torch.sigmoid(torch.tensor(1.0)).item()) / 0.5  # so that w is 1/2
    theta = plain(penalty=penalty).adapt(support, 2)
    torch.testing.assert_close(
        theta["weight"], torch.tensor([[[0.5], [-0.5]]]).double(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(theta["bias"], torch.zeros(1, 2).double())


def test_the_length_of_a_feature_matters_only_if_it_is_kept(make_episode):
    episode = make_episode((5,))
    longer = Examples(30 * episode.support.inputs, episode.support.targets)
    for normalize in (True, False):
        strategy = plain(normalize=normalize)
        one, other = (
            strategy.predict(strategy.adapt(support, 3), episode.query.inputs)
            for support in (episode.support, longer)
        )
        assert torch.allclose(one, other, rtol=1e-7, atol=1e-8) == normalize


def test_steps_that_overshoot_are_halved(monkeypatch):
    """Random classes, long features, a small penalty: whole Newton steps do not always settle."""
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(200, 12, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (200, 12), generator=generator)
    members = F.one_hot(targets, 3).double()

    def worst(w):
        return float((x.mT @ ((x @ w).softmax(-1) - members) + 1e-3 * w).abs().max())

    def newton():
        return (multinomial_newton(x @ x.mT / 1e-3, members.mT)[0] @ x / 1e-3).mT

    assert worst(newton()) < 1e-6
    monkeypatch.setattr(logistic_regression, "HALVINGS", 1)
    assert worst(newton()) > 0.1
    # Then it is solved in another way.
    assert worst(regression_weights(x, members, 1e-3).mT) < 0.02


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_columns_of_any_size_and_zero(size, dtype):
    """Each class is one of two sides, whatever the unit and wherever the zero."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 12, 3, generator=generator, dtype=dtype) / 4
    targets = torch.tensor([[0, 1] * 6])
    x[..., 0] += 2.0 * targets
    strategy = LogisticRegression(nn.Flatten(), penalty=0.1, normalize=False)
    for zero in (0, 3, 100):
        moved = size * (x + zero)
        theta = strategy.adapt(Examples(moved, targets), 2)
        assert torch.equal(strategy.predict(theta, moved).argmax(-1), targets)


def test_it_settles_within_a_few_steps(make_episode, monkeypatch):
    support = make_episode((60,), ways=5, shots=[5] * 5, tasks=8).support
    expected = plain().adapt(support, 5)
    monkeypatch.setattr(logistic_regression, "ITERATIONS", 8)
    torch.testing.assert_close(plain().adapt(support, 5), expected, rtol=0, atol=0)


def test_theta_is_found_without_gradients_and_in_the_dtype_of_the_features(make_episode):
    support = make_episode((6,)).support
    features = support.inputs.float().requires_grad_()
    theta = LogisticRegression(nn.Flatten()).adapt(Examples(features, support.targets), 3)
    assert all(each.dtype == torch.float32 and not each.requires_grad for each in theta.values())
    expected = plain().adapt(support, 3)
    torch.testing.assert_close(theta["weight"].double(), expected["weight"], rtol=1e-4, atol=1e-5)


def test_a_penalty_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="LogisticRegression's penalty is 0; it must be more"):
        plain(penalty=0)


def test_large_problems_are_solved_to_the_same_optimum(make_episode, monkeypatch):
    support = make_episode((7,), shots=[4, 6, 5], tasks=2).support
    exact = plain(penalty=0.1).adapt(support, 3)
    monkeypatch.setattr(logistic_regression, "NEWTON_UP_TO", 0)
    descended = plain(penalty=0.1).adapt(support, 3)
    for name, expected in exact.items():
        # L-BFGS stops at gradients of 1e-6; the objective's curvature is λ = 0.1 at least.
        torch.testing.assert_close(descended[name], expected, rtol=0, atol=1e-4)


def test_a_penalty_that_follows_the_number_of_shots(make_episode):
    support = make_episode((5,), shots=[4, 4, 4]).support
    following = plain(penalty=None).adapt(support, 3)
    same = plain(penalty=0.1).adapt(support, 3)  # 0.2 / √4
    torch.testing.assert_close(following["weight"], same["weight"])


def test_balanced_classes_count_as_if_their_examples_were_repeated(make_episode):
    support = make_episode((6,), shots=[1, 2, 4], tasks=1).support
    repeats = torch.tensor([4, 2, 1])[support.targets[0]]
    repeated = Examples(
        support.inputs.repeat_interleave(repeats, 1), support.targets.repeat_interleave(repeats, 1)
    )
    # Four of each class stand there, where a third of seven counts: the penalty is in proportion.
    one = plain(balanced=True, penalty=0.7).adapt(support, 3)
    other = plain(penalty=0.7 * 12 / 7).adapt(repeated, 3)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)  # solved to 1e-9 of the gradient


def test_balanced_classes_at_a_large_problem(make_episode, monkeypatch):
    support = make_episode((7,), shots=[1, 6, 3], tasks=2).support
    exact = plain(penalty=0.1, balanced=True).adapt(support, 3)
    monkeypatch.setattr(logistic_regression, "NEWTON_UP_TO", 0)
    found = plain(penalty=0.1, balanced=True).adapt(support, 3)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)  # gradients are below 1e-6


def test_balanced_changes_nothing_where_classes_are_of_one_size(make_episode):
    support = make_episode((5,)).support
    torch.testing.assert_close(plain(balanced=True).adapt(support, 3), plain().adapt(support, 3))
