"""ANIL against plain loops that compute the whole network at every step."""

import pytest
import torch

from quickstudy.strategies import ANIL

from ..inner_loops_by_hand import leaves, meta_gradient_by_hand, shaken
from ..meta_gradients import SAME, as_on_a_gpu, gradients_of

HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
def test_the_meta_gradient_is_that_of_an_inner_loop_over_the_head(
    make_episode, second_order, transductive
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(
        ANIL,
        inner_steps=3,
        inner_learning_rate=0.3,
        first_order=not second_order,
        transductive=transductive,
    )
    expected = meta_gradient_by_hand(
        leaves(strategy),
        episode,
        3,
        lambda name, step: 0.3 if name in HEAD else 0.0,
        second_order=second_order,
        transductive=transductive,
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_the_encoder_runs_once_for_the_support_and_once_for_the_query(make_episode, steps):
    strategy = shaken(ANIL, inner_steps=steps)
    batches = []
    strategy.encoder.register_forward_hook(lambda _, inputs, __: batches.append(len(inputs[0])))
    strategy.loss(make_episode((1, 8, 8), tasks=1, queries=3))[0].backward()
    assert batches == [6, 9]


def test_theta_is_a_head_and_the_supports_statistics(make_episode):
    support = make_episode((1, 8, 8)).support
    statistics = {f"encoder.norms.{block}.{kind}" for block in (0, 1) for kind in ("mean", "var")}
    assert set(shaken(ANIL).adapt(support, 3)) == HEAD | statistics
    assert set(shaken(ANIL, transductive=True).adapt(support, 3)) == HEAD


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    """On a GPU tasks are mapped by vmap."""
    episode = make_episode((1, 8, 8), tasks=3)
    expected = gradients_of(shaken(ANIL), episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(shaken(ANIL), episode), expected, **SAME)


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="neither may be negative"):
        shaken(ANIL, inner_steps=-1)
