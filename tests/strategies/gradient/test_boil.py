"""BOIL against plain loops whose rate is zero for the head."""

import pytest
import torch

from quickstudy.strategies import BOIL

from ..inner_loops_by_hand import leaves, meta_gradient_by_hand, shaken
from ..meta_gradients import SAME, gradients_of

HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
def test_the_meta_gradient_is_that_of_an_inner_loop_without_the_head(
    make_episode, second_order, transductive
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(
        BOIL,
        inner_steps=2,
        inner_learning_rate=0.3,
        first_order=not second_order,
        transductive=transductive,
    )
    expected = meta_gradient_by_hand(
        leaves(strategy),
        episode,
        2,
        lambda name, step: 0.0 if name in HEAD else 0.3,
        second_order=second_order,
        transductive=transductive,
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_every_task_has_the_same_head_and_an_encoder_of_its_own(make_episode):
    strategy = shaken(BOIL, inner_steps=2)
    theta = strategy.adapt(make_episode((1, 8, 8)).support, 3)
    for name, start in strategy.named_parameters():
        for task in range(2):
            assert torch.equal(theta[name][task], start) == (name in HEAD), name
        assert torch.equal(theta[name][0], theta[name][1]) == (name in HEAD), name


def test_recomputed_inner_steps_give_the_same_gradient_for_the_head_too(make_episode):
    episode = make_episode((1, 8, 8))
    expected = gradients_of(shaken(BOIL, inner_steps=3), episode)
    got = gradients_of(shaken(BOIL, inner_steps=3, recompute=True), episode)
    torch.testing.assert_close(got, expected, **SAME)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="neither may be negative"):
        shaken(BOIL, test_inner_steps=-1)
