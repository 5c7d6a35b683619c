"""CAVIA against its equations written out with loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4, ResNet12
from quickstudy.strategies import CAVIA

from ..meta_gradients import as_on_a_gpu, errors_of_sine_waves, finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-8, "atol": 1e-11}
RATE = 0.7


def tiny(encoder=None, **arguments):
    torch.manual_seed(0)
    encoder = encoder or MLP((4,), (5, 6))
    strategy = CAVIA(encoder, 3, context=4, inner_learning_rate=RATE, **arguments).double()
    with torch.no_grad():
        for name, parameter in strategy.named_parameters():
            if "norms" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return strategy


def film_by_hand(p, c, x):
    for layer in (0, 1):
        x = x @ p[f"encoder.layers.{layer}.weight"].T + p[f"encoder.layers.{layer}.bias"]
        both = p[f"conditions.{layer}.weight"] @ c + p[f"conditions.{layer}.bias"]
        wide = x.shape[1]
        x = F.relu((1 + both[:wide]) * x + both[wide:])
    return x @ p["head.weight"].T + p["head.bias"]


def concatenation_by_hand(p, c, x):
    """The context beside the input, as the first layer's weight [W_x, W_c] reads them."""
    x = torch.cat([x, c.expand(len(x), -1)], dim=1)
    weight = torch.cat([p["encoder.layers.0.weight"], p["conditions.0.weight"]], dim=1)
    x = F.relu(x @ weight.T + p["encoder.layers.0.bias"])
    x = F.relu(x @ p["encoder.layers.1.weight"].T + p["encoder.layers.1.bias"])
    return x @ p["head.weight"].T + p["head.bias"]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    ("by_hand", "arguments"),
    [
        (film_by_hand, {}),
        (concatenation_by_hand, {"conditioning": "concatenation", "layers": [0]}),
    ],
    ids=["film", "concatenation"],
)
def test_the_meta_gradient_is_that_of_its_equations(make_episode, by_hand, arguments, first_order):
    episode = make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(inner_steps=3, first_order=first_order, **arguments)
    phi = {n: p.detach().clone().requires_grad_() for n, p in strategy.named_parameters()}
    losses = []
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        c = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        for _ in range(3):
            inner = F.cross_entropy(by_hand(phi, c, x), y)
            (gradient,) = torch.autograd.grad(inner, c, create_graph=not first_order)
            c = c - RATE * gradient
        logits = by_hand(phi, c, episode.query.inputs[task])
        losses.append(F.cross_entropy(logits, episode.query.targets[task]))
    loss = torch.stack(losses).mean()
    expected = dict(zip(phi, torch.autograd.grad(loss, list(phi.values())), strict=True))
    torch.testing.assert_close(gradients_of(strategy, episode), (loss.detach(), expected), **SAME)


def test_only_the_context_adapts_and_begins_at_zero(make_episode):
    support = make_episode((4,)).support
    theta = tiny().adapt(support, 3)
    assert {name: value.shape for name, value in theta.items()} == {"context": (2, 4)}
    assert not torch.equal(theta["context"][0], theta["context"][1])
    assert not tiny(inner_steps=0).adapt(support, 3)["context"].any()


def test_a_context_of_zero_is_the_network_without_context(make_episode):
    queries = make_episode((1, 8, 8)).query.inputs
    strategy = tiny(Conv4((1, 8, 8), 3, normalization="none", blocks=2))
    with torch.no_grad():
        for layer in strategy.conditions.values():
            layer.bias.zero_()
    theta = {"context": torch.zeros(2, 4, dtype=torch.float64)}
    expected = strategy.head(strategy.encoder(queries.flatten(0, 1)))
    torch.testing.assert_close(strategy.predict(theta, queries).flatten(0, 1), expected, **SAME)


def test_inner_steps_fit_the_support_better(make_episode):
    support = make_episode((4,), shots=[3, 1, 2]).support
    losses = []
    for steps in (0, 1, 5, 20):
        strategy = tiny(inner_steps=steps)
        logits = strategy.predict(strategy.adapt(support, 3), support.inputs)
        losses.append(F.cross_entropy(logits.flatten(0, 1), support.targets.ravel()).item())
    assert losses == sorted(losses, reverse=True)


def test_the_statistics_of_the_support_belong_to_theta(make_episode):
    support = make_episode((1, 8, 8)).support
    theta = tiny(Conv4((1, 8, 8), 3, blocks=2)).adapt(support, 3)
    assert set(theta) == {"context"} | {
        f"encoder.norms.{block}.{kind}" for block in (0, 1) for kind in ("mean", "var")
    }


class Plain(nn.Module):
    """An encoder whose layers cannot be modulated."""

    out_features = 5

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, x):
        return self.layer(x).tanh()


@pytest.mark.parametrize("conditioning", ["film", "concatenation"])
def test_the_vectors_of_another_encoder_are_conditioned(make_episode, conditioning):
    episode = make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(Plain(), conditioning=conditioning)
    theta = strategy.adapt(episode.support, 3)
    x, c = episode.query.inputs[0], theta["context"][0]
    (condition,) = strategy.conditions.values()
    changes = condition(c)
    scale = changes[:5] if conditioning == "film" else 0
    expected = strategy.head(strategy.encoder(x) * (1 + scale) + changes[-5:])
    torch.testing.assert_close(strategy.predict(theta, episode.query.inputs)[0], expected, **SAME)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv4((1, 4, 4), 2, blocks=1),
        lambda: ResNet12((1, 4, 4), (2,), drop_rate=0.0),
        lambda: MLP((1, 4, 4), (3,)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), Plain()),
    ],
    ids=["Conv4", "ResNet12", "MLP", "another"],
)
def test_the_meta_gradient_agrees_with_finite_differences(make_episode, make):
    episode = make_episode((1, 4, 4), shots=[3, 1, 2], tasks=1)
    encoder = make()
    encoder.out_features = getattr(encoder, "out_features", 5)
    strategy = tiny(encoder)
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode((1, 8, 8), tasks=3, shots=[3, 1, 2])
    strategy = tiny(Conv4((1, 8, 8), 3, blocks=2))
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


@pytest.mark.parametrize("arguments", [{}, {"conditioning": "concatenation", "layers": [0]}])
def test_it_learns_sine_waves(arguments):
    torch.manual_seed(0)
    strategy = CAVIA(MLP((1,), (20, 20)), 1, 5, inner_steps=1, inner_learning_rate=1.0, **arguments)
    before, after = errors_of_sine_waves(strategy)
    assert after < 0.8 * before


# --- what cannot be ---


@pytest.mark.parametrize("arguments", [{"context": 0}, {"conditioning": "addition"}], ids=str)
def test_a_context_that_is_none_or_does_nothing_known_is_refused(arguments):
    with pytest.raises(ValueError, match="at least 1, the second film or concatenation"):
        CAVIA(MLP((4,), (5,)), **arguments)


@pytest.mark.parametrize("layers", [[], [2], [-1, 0]], ids=str)
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match=r"cannot be conditioned; name one or more of \[0, 1\]"):
        CAVIA(MLP((4,), (5, 6)), layers=layers)
