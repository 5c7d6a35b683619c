"""T-net against a network whose transformations are layers of their own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Examples
from quickstudy.strategies import MAML, TNet

from ..meta_gradients import as_on_a_gpu, errors_of_sine_waves, finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-8, "atol": 1e-11}
RATE = 0.2


def tiny(strategy=TNet, normalization="batch", seed=0, side=8, **arguments):
    torch.manual_seed(seed)
    encoder = Conv4((1, side, side), 3, normalization=normalization, blocks=side // 4)
    made = strategy(encoder, ways=3, inner_learning_rate=RATE, **arguments).double()
    with torch.no_grad():
        made.head.weight.add_(0.3 * torch.randn_like(made.head.weight))
    return made


def disturbed(strategy):
    """The same, its transformations no longer the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for matrix in strategy.transformations.values():
            matrix.add_(0.3 * torch.randn_like(matrix))
    return strategy


def network_by_hand(theta, t, x):
    """Logits, every T a layer: 1x1 convolutions in the encoder, a matrix after the head."""
    for block in (0, 1):
        x = F.conv2d(x, theta[f"encoder.convolutions.{block}.weight"], padding=1)
        x = x + theta[f"encoder.convolutions.{block}.bias"][:, None, None]
        x = F.conv2d(x, t[f"encoder_convolutions_{block}"][:, :, None, None])
        x = F.max_pool2d(F.relu(x), 2)
    return (x.flatten(1) @ theta["head.weight"].T + theta["head.bias"]) @ t["head"].T


@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_is_that_of_a_network_with_layers_held_fixed(make_episode, first_order):
    episode = make_episode((1, 8, 8), shots=[3, 1, 2])
    strategy = disturbed(tiny(normalization="none", inner_steps=2, first_order=first_order))
    phi = {n: p.detach().clone().requires_grad_() for n, p in strategy.named_parameters()}
    t = {n.partition(".")[2]: p for n, p in phi.items() if n.startswith("transformations.")}
    losses = []
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        theta = {name: each for name, each in phi.items() if "transformations" not in name}
        for _ in range(2):
            inner = F.cross_entropy(network_by_hand(theta, t, x), y)
            found = torch.autograd.grad(inner, list(theta.values()), create_graph=not first_order)
            theta = {
                name: each - RATE * gradient
                for (name, each), gradient in zip(theta.items(), found, strict=True)
            }
        logits = network_by_hand(theta, t, episode.query.inputs[task])
        losses.append(F.cross_entropy(logits, episode.query.targets[task]))
    loss = torch.stack(losses).mean()
    expected = dict(zip(phi, torch.autograd.grad(loss, list(phi.values())), strict=True))
    torch.testing.assert_close(gradients_of(strategy, episode), (loss.detach(), expected), **SAME)


def test_it_starts_as_maml(make_episode):
    episode = make_episode((1, 8, 8), shots=[3, 1, 2])
    expected = tiny(MAML, inner_steps=2)(episode)
    torch.testing.assert_close(tiny(inner_steps=2)(episode), expected, **SAME)


def test_a_step_moves_a_layer_by_its_own_metric():
    """T W moves by −α T Tᵀ ∇, where ∇ is the gradient by T W."""
    torch.manual_seed(0)
    encoder = nn.Identity()
    encoder.out_features = 4
    strategy = disturbed(TNet(encoder, ways=3, inner_learning_rate=RATE).double())
    x, y = torch.randn(1, 5, 4, dtype=torch.float64), torch.tensor([[0, 2, 1, 1, 0]])
    theta = strategy.adapt(Examples(x, y), 3)
    t = strategy.transformations["head"].detach()
    before = (t @ strategy.head.weight).detach().requires_grad_()
    logits = x[0] @ before.T + t @ strategy.head.bias.detach()
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y[0]), before)
    after = t @ theta["head.weight"][0]
    torch.testing.assert_close(after, before - RATE * t @ t.T @ gradient, **SAME)


def test_the_transformations_are_held_fixed_in_the_inner_loop(make_episode):
    theta = tiny(inner_steps=3).adapt(make_episode((1, 8, 8)).support, 3)
    assert not [name for name in theta if "transformations" in name]


def test_every_linear_and_convolution_layer_that_learns_has_a_transformation():
    assert {name: len(t) for name, t in tiny().transformations.items()} == {
        "encoder_convolutions_0": 3,
        "encoder_convolutions_1": 3,
        "head": 3,
    }
    encoder = MLP((4,), (5, 6))
    encoder.layers[0].requires_grad_(False)
    assert set(TNet(encoder).transformations) == {"encoder_layers_1", "head"}


def test_the_meta_gradient_agrees_with_finite_differences(make_episode):
    episode = make_episode((1, 4, 4), shots=[3, 1, 2], tasks=1)
    strategy = disturbed(tiny(side=4, inner_steps=2))
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)
    assert all(gradient.abs().max() > 1e-5 for gradient in expected.values())


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode((1, 8, 8), tasks=3, shots=[3, 1, 2])
    strategy = disturbed(tiny(inner_steps=2))
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_it_learns_sine_waves():
    torch.manual_seed(0)
    strategy = TNet(MLP((1,), (20, 20)), ways=1, inner_learning_rate=0.01)
    before, after = errors_of_sine_waves(strategy)
    assert after < 0.8 * before
