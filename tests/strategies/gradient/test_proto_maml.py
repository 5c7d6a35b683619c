"""Proto-MAML against its equations written out with loops, and against a prototypical network."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.encoders import MLP, Conv4
from quickstudy.strategies import ProtoMAML, PrototypicalNetwork

from ..meta_gradients import as_on_a_gpu, finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-8, "atol": 1e-11}
FIRST, SECOND = "encoder.layers.0.weight", "encoder.layers.0.bias"


def tiny(**arguments):
    torch.manual_seed(0)
    return ProtoMAML(MLP((4,), (5,)), **arguments).double()


def by_hand(strategy, episode, steps, rate, second_order=True):
    """The loss and its gradient; W and b are parameters of their own in every inner step."""
    phi = {n: p.detach().clone().requires_grad_() for n, p in strategy.named_parameters()}
    losses = []
    for task in range(episode.tasks):
        x, y = episode.support.inputs[task], episode.support.targets[task]

        def features(p, x):
            return F.relu(x @ p[0].T + p[1])

        start = features((phi[FIRST], phi[SECOND]), x)
        weight, bias = [], []
        for k in range(episode.ways):
            of_class = [start[i] for i in range(len(y)) if y[i] == k]
            c = sum(of_class) / len(of_class)
            weight.append(2 * c)
            bias.append(-(c**2).sum())
        # Multiplied by one: a new node of the graph, so that it is apart from φ in W and b.
        theta = [1 * phi[FIRST], 1 * phi[SECOND], torch.stack(weight), torch.stack(bias)]
        for _ in range(steps):
            logits = features(theta, x) @ theta[2].T + theta[3]
            found = torch.autograd.grad(
                F.cross_entropy(logits, y), theta, create_graph=second_order, retain_graph=True
            )
            theta = [each - rate * gradient for each, gradient in zip(theta, found, strict=True)]
        logits = features(theta, episode.query.inputs[task]) @ theta[2].T + theta[3]
        losses.append(F.cross_entropy(logits, episode.query.targets[task]))
    loss = torch.stack(losses).mean()
    found = torch.autograd.grad(loss, list(phi.values()))
    return loss.detach(), dict(zip(phi, found, strict=True))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_meta_gradient_is_that_of_its_equations(make_episode, steps, first_order):
    episode = make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(inner_steps=steps, inner_learning_rate=0.05, first_order=first_order)
    expected = by_hand(strategy, episode, steps, 0.05, second_order=not first_order)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize("arguments", [{}, {"recompute": True}], ids=str)
def test_the_meta_gradient_agrees_with_finite_differences(make_episode, arguments):
    episode = make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(inner_steps=2, inner_learning_rate=0.05, **arguments)
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


def test_without_inner_steps_it_is_a_prototypical_network(make_episode):
    episode = make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(inner_steps=0)
    expected = PrototypicalNetwork(strategy.encoder)(episode)
    torch.testing.assert_close(strategy(episode).softmax(-1), expected.softmax(-1), **SAME)


@pytest.mark.parametrize("ways", [2, 3, 7])
def test_any_number_of_ways_will_do(make_episode, ways):
    episode = make_episode((4,), ways=ways)
    strategy = tiny(inner_learning_rate=0.05)
    theta = strategy.adapt(episode.support, ways)
    assert theta["head.weight"].shape == (2, ways, 5)
    assert strategy.predict(theta, episode.query.inputs).shape == (2, 2 * ways, ways)
    assert strategy.default_ways(20) == 5  # none of its own


def test_inner_steps_fit_the_support_better(make_episode):
    episode = make_episode((4,), shots=[3, 1, 2])
    losses = []
    for steps in (0, 1, 5, 20):
        strategy = tiny(inner_steps=steps, inner_learning_rate=0.01)
        logits = strategy.predict(strategy.adapt(episode.support, 3), episode.support.inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), episode.support.targets.ravel())
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_the_head_is_no_part_of_what_is_learned_across_tasks():
    assert not [name for name in tiny().state_dict() if name.startswith("head")]


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
def test_all_tasks_at_once_give_what_one_after_another_does(
    make_episode, monkeypatch, transductive
):
    episode = make_episode((1, 8, 8), tasks=3, shots=[3, 1, 2])
    torch.manual_seed(0)
    encoder = Conv4((1, 8, 8), 3, blocks=2)
    strategy = ProtoMAML(encoder, 2, inner_learning_rate=0.05, transductive=transductive).double()
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_regression_is_not_for_it():
    assert not ProtoMAML.regression
