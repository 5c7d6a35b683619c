"""Reptile against torch's own optimisers on plain loops."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.strategies import Reptile
from quickstudy.strategies.gradient.reptile import taking_turns

from ..inner_loops_by_hand import leaves, network_by_hand, shaken
from ..meta_gradients import SAME, as_on_a_gpu, gradients_of

# Adam divides a gradient by its own size, so where it is rounding away from zero, as that of the
# bias that batch normalisation subtracts again would be, digits are lost.
NEARLY_SAME = {"rtol": 1e-6, "atol": 1e-9}


def trained_by_hand(phi, batches, optimizer, rate):
    """θ after one step on each (inputs, targets), by an optimiser of torch."""
    theta = {name: each.detach().clone().requires_grad_() for name, each in phi.items()}
    step = (
        torch.optim.Adam(theta.values(), rate, betas=(0.0, 0.999))
        if optimizer == "adam"
        else torch.optim.SGD(theta.values(), rate)
    )
    for inputs, targets in batches:
        step.zero_grad()
        logits, _ = network_by_hand(theta, inputs, blocks=2)
        F.cross_entropy(logits, targets).backward()
        step.step()
    return {name: each.detach() for name, each in theta.items()}


def batches_by_hand(inputs, targets, size, steps):
    """Every class's first example, then every class's second, and so on, round and round."""
    seen, places = {}, []
    for position, target in enumerate(targets.tolist()):
        seen[target] = seen.get(target, 0) + 1
        places.append((seen[target], position))
    order = [position for _, position in sorted(places)]
    endless = (order * (1 + steps * size // len(order)))[: steps * size]
    for first in range(0, len(endless), size):
        batch = endless[first : first + size]
        yield inputs[batch], targets[batch]


def together(episode, task):
    support, query = episode.support, episode.query
    return (
        torch.cat([support.inputs[task], query.inputs[task]]),
        torch.cat([support.targets[task], query.targets[task]]),
    )


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("sgd", 0.3)])
def test_the_gradient_of_the_loss_is_phi_minus_where_the_tasks_lead(make_episode, optimizer, rate):
    episode = make_episode((1, 8, 8), shots=[1, 2, 1], queries=3)
    strategy = shaken(
        Reptile,
        inner_steps=4,
        inner_batch_size=5,  # of 13 examples: the second round begins inside a batch
        inner_learning_rate=rate,
        inner_optimizer=optimizer,
    )
    phi = leaves(strategy)
    arrived = [
        trained_by_hand(phi, batches_by_hand(*together(episode, task), 5, 4), optimizer, rate)
        for task in range(2)
    ]
    loss, got = gradients_of(strategy, episode)
    expected = {
        name: each.detach() - (arrived[0][name] + arrived[1][name]) / 2
        for name, each in phi.items()
    }
    torch.testing.assert_close(got, expected, **NEARLY_SAME)
    squares = sum(
        ((each.detach() - theta[name]) ** 2).sum()
        for theta in arrived
        for name, each in phi.items()
    )
    torch.testing.assert_close(loss, squares / 4, **NEARLY_SAME)  # half of the mean of two


def test_gradient_descent_on_the_loss_moves_phi_by_a_share_of_the_way(make_episode):
    """φ ← φ + ε (θ_S − φ): with ε = 1 and one task, φ becomes what the task was solved by."""
    episode = make_episode((1, 8, 8), tasks=1)
    strategy = shaken(Reptile, inner_learning_rate=0.01)
    phi = leaves(strategy)
    solved = trained_by_hand(phi, batches_by_hand(*together(episode, 0), 10, 8), "adam", 0.01)
    optimizer = torch.optim.SGD(strategy.parameters(), 0.25)
    strategy.loss(episode)[0].backward()
    optimizer.step()
    for name, parameter in strategy.named_parameters():
        expected = 0.75 * phi[name] + 0.25 * solved[name]
        torch.testing.assert_close(parameter, expected, **NEARLY_SAME)


def test_one_step_on_all_examples_is_joint_training(make_episode):
    """Then φ − θ_1 is α times the gradient of the loss over all examples (section 5 of the paper:
    with one inner step Reptile is ordinary training on the mixture of all tasks)."""
    episode = make_episode((1, 8, 8), tasks=1)
    strategy = shaken(
        Reptile,
        inner_steps=1,
        inner_batch_size=12,
        inner_learning_rate=0.2,
        inner_optimizer="sgd",
    )
    phi = leaves(strategy)
    inputs, targets = together(episode, 0)
    logits, _ = network_by_hand(phi, inputs, blocks=2)
    found = torch.autograd.grad(F.cross_entropy(logits, targets), list(phi.values()))
    _, got = gradients_of(strategy, episode)
    expected = {name: 0.2 * each for name, each in zip(phi, found, strict=True)}
    torch.testing.assert_close(got, expected, **SAME)


def test_classes_take_turns():
    targets = torch.tensor([[0, 0, 0, 1, 1, 2], [2, 1, 2, 0, 2, 0]])
    expected = torch.tensor([[0, 3, 5, 1, 4, 2], [0, 1, 3, 2, 5, 4]])
    assert torch.equal(taking_turns(targets, 3), expected)


def test_in_use_all_of_the_support_is_one_batch_and_steps_may_differ(make_episode):
    support = make_episode((1, 8, 8), shots=[3, 1, 2]).support
    strategy = shaken(Reptile, test_inner_steps=3, inner_learning_rate=0.01, inner_batch_size=2)
    theta = strategy.eval().adapt(support, 3)
    for task in range(2):
        batches = [(support.inputs[task], support.targets[task])] * 3
        expected = trained_by_hand(leaves(strategy), batches, "adam", 0.01)
        for name, value in expected.items():
            torch.testing.assert_close(theta[name][task], value, **NEARLY_SAME)


def test_training_draws_no_random_numbers(make_episode):
    """So that tasks can be learned side by side."""
    strategy, episode = shaken(Reptile), make_episode((1, 8, 8))
    before = torch.get_rng_state()
    strategy.loss(episode)[0].backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    """On a GPU tasks are mapped by vmap."""
    episode = make_episode((1, 8, 8), tasks=3)
    expected = gradients_of(shaken(Reptile), episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(shaken(Reptile), episode), expected, **NEARLY_SAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner_batch_size": 0}, "must be at least 1"),
        ({"inner_optimizer": "rmsprop"}, "'rmsprop' is unknown; choose adam or sgd"),
        ({"test_inner_steps": -1}, "neither may be negative"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        shaken(Reptile, **arguments)
