"""FOMAML against a plain loop that takes the query's gradient where the inner loop arrived."""

import pytest
import torch

from quickstudy.strategies import FOMAML, MAML
from quickstudy.training.task_memory import held_bytes

from ..inner_loops_by_hand import leaves, query_loss_by_hand, shaken, theta_by_hand
from ..meta_gradients import SAME, gradients_of


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_meta_gradient_is_the_gradient_of_the_querys_loss_at_theta(
    make_episode, steps, transductive
):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(FOMAML, inner_steps=steps, inner_learning_rate=0.3, transductive=transductive)
    phi = leaves(strategy)
    sums = {name: torch.zeros_like(each) for name, each in phi.items()}
    for task in range(episode.tasks):
        support, targets = episode.support.inputs[task], episode.support.targets[task]
        arrived = theta_by_hand(phi, support, targets, steps, lambda *_: 0.3)
        theta = {name: each.detach().requires_grad_() for name, each in arrived.items()}
        loss = query_loss_by_hand(theta, episode, task, transductive=transductive)
        gradients = torch.autograd.grad(loss, list(theta.values()))
        for name, gradient in zip(theta, gradients, strict=True):
            sums[name] += gradient / episode.tasks
    _, got = gradients_of(strategy, episode)
    torch.testing.assert_close(got, sums, **SAME)


def test_it_is_maml_without_second_derivatives(make_episode):
    episode = make_episode((1, 8, 8))
    expected = gradients_of(shaken(MAML, inner_steps=2, first_order=True), episode)
    torch.testing.assert_close(gradients_of(shaken(FOMAML, inner_steps=2), episode), expected)


def test_more_inner_steps_hold_no_more_memory(make_episode):
    episode = make_episode((1, 8, 8))
    few, many = (held_bytes(shaken(FOMAML, inner_steps=steps), episode) for steps in (1, 20))
    assert many == few


def test_negative_steps_are_refused():
    with pytest.raises(ValueError, match="neither may be negative"):
        shaken(FOMAML, inner_steps=-1)
