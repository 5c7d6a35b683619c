"""R2D2 against its equations, and on a case solved by hand."""

import pytest
import torch
from torch import nn

from quickstudy.episodes import Episode, Examples, Sinusoids
from quickstudy.strategies import R2D2

# Two ways to solve one well-conditioned system in float64.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return R2D2(nn.Flatten(), **arguments).double()


def logits_by_hand(strategy, support, query, ways):
    """Equation by equation, a task at a time, with the D x D system whatever the shapes."""
    penalty, scale = strategy.log_penalty.exp(), strategy.log_scale.exp()
    outputs = []
    for inputs, targets, queries in zip(support.inputs, support.targets, query, strict=True):
        x = torch.cat([inputs, torch.ones(len(inputs), 1).double()], dim=1)
        y = torch.eye(ways).double()[targets]
        w = torch.linalg.inv(x.T @ x + penalty * torch.eye(x.shape[1]).double()) @ x.T @ y
        q = torch.cat([queries, torch.ones(len(queries), 1).double()], dim=1)
        outputs.append(scale * q @ w)
    return torch.stack(outputs)


def test_one_number_solved_by_hand():
    """x = 1 and -1 for classes 0 and 1: X Xᵀ + I is [[3, 0], [0, 3]] with the constant."""
    support = Examples(torch.tensor([[[1.0], [-1.0]]]).double(), torch.tensor([[0, 1]]))
    strategy = plain(penalty=1.0, scale=6.0)
    theta = strategy.adapt(support, ways=2)
    torch.testing.assert_close(theta["weight"], torch.tensor([[[2.0], [-2.0]]]).double())
    torch.testing.assert_close(theta["bias"], torch.tensor([[2.0, 2.0]]).double())
    logits = strategy.predict(theta, torch.tensor([[[0.5]]]).double())
    torch.testing.assert_close(logits, torch.tensor([[[3.0, 1.0]]]).double())


@pytest.mark.parametrize("size", [2, 30], ids=["short features", "long features"])
def test_logits_follow_the_equations_for_unequal_shots(make_episode, size):
    episode = make_episode((size,), shots=[1, 4, 2])
    strategy = plain(penalty=0.3, scale=2.5)
    expected = logits_by_hand(strategy, episode.support, episode.query.inputs, 3)
    torch.testing.assert_close(strategy(episode), expected, **SAME)


def test_penalty_and_scale_start_as_asked_and_stay_positive():
    strategy = plain(penalty=50.0, scale=7.0)
    assert strategy.log_penalty.exp().item() == pytest.approx(50.0)
    assert strategy.log_scale.exp().item() == pytest.approx(7.0)


@pytest.mark.parametrize("size", [2, 9])
def test_gradients_of_the_loss_agree_with_finite_differences(make_episode, size):
    episode = make_episode((size,), shots=[1, 3, 2])
    strategy = plain(penalty=0.5)

    def loss(inputs, queries, log_penalty, log_scale):
        changed = Episode(
            Examples(inputs, episode.support.targets), Examples(queries, episode.query.targets), 3
        )
        parameters = {"log_penalty": log_penalty, "log_scale": log_scale}
        with torch.nn.utils.stateless._reparametrize_module(strategy, parameters):
            return strategy.loss(changed)[0]

    given = [episode.support.inputs, episode.query.inputs, *strategy.parameters()]
    torch.autograd.gradcheck(loss, [each.detach().clone().requires_grad_() for each in given])


def test_without_examples_of_a_class_it_is_the_least_likely(make_episode):
    episode = make_episode((20,), shots=[3, 3, 0])
    logits = plain(penalty=0.01).predict(
        plain(penalty=0.01).adapt(episode.support, 3), episode.support.inputs
    )
    assert logits.isfinite().all()
    assert (logits.argmax(-1) == episode.support.targets).all()


# --- regression ---


def test_in_regression_targets_are_fitted_as_they_are():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    truth = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    y = x @ truth + 0.7
    strategy = plain(penalty=1e-9)
    theta = strategy.adapt(Examples(x, y), ways=2)
    # A penalty so small leaves the exact linear function, to about the penalty.
    torch.testing.assert_close(theta["weight"].mT, truth, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(theta["bias"], torch.full((2, 2), 0.7).double(), atol=1e-7, rtol=0)


def test_the_loss_of_regression_is_the_squared_error_and_ignores_the_scale():
    episode = Sinusoids(shots=5, tasks=3).episode(0)
    strategy = R2D2(nn.Flatten(), scale=9.0)
    loss = strategy.loss(episode)[0]
    torch.testing.assert_close(loss, (strategy(episode) - episode.query.targets).square().mean())
    torch.testing.assert_close(R2D2(nn.Flatten(), scale=1.0).loss(episode)[0], loss)


@pytest.mark.parametrize("arguments", [{"penalty": 0.0}, {"scale": -1.0}], ids=str)
def test_numbers_that_are_not_positive_are_refused(arguments):
    with pytest.raises(ValueError, match="must be more than 0"):
        plain(**arguments)
