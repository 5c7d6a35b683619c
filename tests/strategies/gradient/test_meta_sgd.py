"""Meta-SGD against plain loops with a rate for every number."""

import pytest
import torch

from quickstudy.strategies import MAML, MetaSGD

from ..inner_loops_by_hand import leaves, meta_gradient_by_hand, shaken
from ..meta_gradients import SAME, gradients_of


def learner_and_rates(strategy):
    """The names of θ, and of the rates in the same order."""
    names = list(dict(strategy.named_parameters()))
    rates = [name for name in names if name.startswith("rates.")]
    return [name for name in names if name not in rates], rates


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
@pytest.mark.parametrize("steps", [1, 2])
def test_start_and_rates_get_the_gradient_of_double_backward(
    make_episode, steps, second_order, transductive
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(
        MetaSGD,
        inner_steps=steps,
        keep=(),
        first_order=not second_order,
        transductive=transductive,
    )
    phi = leaves(strategy)
    learner, rates = learner_and_rates(strategy)
    rate_of = dict(zip(learner, rates, strict=True))
    expected = meta_gradient_by_hand(
        phi,
        episode,
        steps,
        lambda name, step: phi[rate_of[name]],
        learner=learner,
        second_order=second_order,
        transductive=transductive,
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_the_gradient_of_a_rate_is_minus_the_product_of_the_inner_and_outer_gradients(make_episode):
    """Of one step, by the chain rule: dL(query; θ)/dα = −∇L(query; θ) ∘ ∇L(support; θ_0)."""
    episode = make_episode((1, 8, 8), tasks=1)
    strategy = shaken(MetaSGD, inner_steps=1, first_order=True, transductive=True)
    learner, rates = learner_and_rates(strategy)
    _, gradients = gradients_of(strategy, episode)
    theta = strategy.adapt(episode.support, 3)
    for name, rate in zip(learner, rates, strict=True):
        parameters = dict(strategy.named_parameters())
        inner = (parameters[name] - theta[name][0]) / parameters[rate]
        # First order: the gradient by the start is that at θ.
        torch.testing.assert_close(gradients[rate], -gradients[name] * inner)


def test_equal_rates_make_it_maml(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = shaken(MetaSGD, inner_steps=2, least_inner_rate=0.2, most_inner_rate=0.2)
    plain = shaken(MAML, inner_steps=2, inner_learning_rate=0.2)
    with torch.no_grad():  # the same start
        for name, parameter in plain.named_parameters():
            parameter.copy_(dict(strategy.named_parameters())[name])
    torch.testing.assert_close(strategy(episode), plain(episode))


def test_rates_start_at_random_between_their_limits_one_for_each_number():
    strategy = shaken(MetaSGD, least_inner_rate=0.02, most_inner_rate=0.06)
    learner, rates = learner_and_rates(strategy)
    parameters = dict(strategy.named_parameters())
    for name, rate in zip(learner, rates, strict=True):
        assert parameters[name].shape == parameters[rate].shape
    every = torch.cat([parameters[rate].flatten() for rate in rates])
    assert 0.02 <= every.min() < 0.025  # of some hundred numbers
    assert 0.055 < every.max() <= 0.06


def test_recomputed_inner_steps_give_the_same_gradient(make_episode):
    episode = make_episode((1, 8, 8))
    expected = gradients_of(shaken(MetaSGD, inner_steps=3), episode)
    got = gradients_of(shaken(MetaSGD, inner_steps=3, recompute=True), episode)
    torch.testing.assert_close(got, expected, **SAME)


@pytest.mark.parametrize("rates", [(-0.1, 0.1), (0.2, 0.1)])
def test_limits_that_are_none_are_refused(rates):
    with pytest.raises(ValueError, match="Rates cannot start between"):
        shaken(MetaSGD, least_inner_rate=rates[0], most_inner_rate=rates[1])
