"""The LSTM meta-learner against its equations, coordinate by coordinate and tensor by tensor."""

import math

import pytest
import torch

from quickstudy.encoders import MLP
from quickstudy.strategies import MAML, MetaLSTM

from ..coordinatewise_by_hand import (
    lstm_by_hand,
    meta_gradient_by_hand,
    preprocessed_by_hand,
    zeros_by_hand,
)
from ..inner_loops_by_hand import leaves, shaken
from ..meta_gradients import (
    SAME,
    as_on_a_gpu,
    errors_of_sine_waves,
    finite_differences,
    gradients_of,
)

HIDDEN = 4


def equations(phi):
    """How the memory begins, and a step, as ``meta_gradient_by_hand`` takes them."""

    def gate(name, h, theta, before):
        weight, bias = phi[f"{name}.weight"], phi[f"{name}.bias"]
        read = torch.cat([h, theta[:, None], before[:, None]], dim=1)
        return 1 / (1 + torch.exp(-(read @ weight + bias)))

    def remember(coordinates):
        nothing, all_of_it = torch.zeros(coordinates).double(), torch.ones(coordinates).double()
        return zeros_by_hand(1, coordinates, HIDDEN), nothing, all_of_it

    def move(theta, gradient, loss, memory):
        state, i, f = memory
        losses = preprocessed_by_hand(loss).expand(len(theta), 2)
        read = torch.cat([preprocessed_by_hand(gradient), losses], dim=1)
        h, state = lstm_by_hand(phi, "lstm", read, state)
        i, f = gate("input_gate", h, theta, i), gate("forget_gate", h, theta, f)
        return f * theta - i * gradient, (state, i, f)

    return remember, move


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_meta_gradient_is_that_of_its_equations(make_episode, steps, transductive):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(MetaLSTM, inner_steps=steps, hidden=HIDDEN, transductive=transductive)
    phi = leaves(strategy)
    expected = meta_gradient_by_hand(
        phi, episode, steps, *equations(phi), transductive=transductive
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)
    assert all(gradient.isfinite().all() for gradient in expected[1].values())


def as_gradient_descent(strategy, rate):
    """Forces i to ``rate`` and f to 1."""
    with torch.no_grad():
        for gate in (strategy.input_gate, strategy.forget_gate):
            gate.weight.zero_()
        strategy.input_gate.bias.fill_(math.log(rate / (1 - rate)))
        strategy.forget_gate.bias.fill_(50)  # σ(50) is 1 in float64
    return strategy


@pytest.mark.parametrize("steps", [1, 3])
def test_with_forced_gates_it_is_first_order_maml(make_episode, steps):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = as_gradient_descent(shaken(MetaLSTM, inner_steps=steps), 0.3)
    plain = shaken(MAML, inner_steps=steps, inner_learning_rate=0.3, first_order=True)
    start = dict(strategy.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(start[name])
    (loss, found), (same_loss, expected) = (
        gradients_of(each, episode) for each in (strategy, plain)
    )
    torch.testing.assert_close(loss, same_loss, **SAME)
    torch.testing.assert_close({name: found[name] for name in expected}, expected, **SAME)


def test_it_begins_as_gradient_descent_with_a_small_rate_and_hardly_any_decay():
    torch.manual_seed(0)
    strategy = MetaLSTM(MLP((4,), (5,)), 3, inner_learning_rate=0.05, remembering=0.99)
    theta, gradient = torch.randn(50), torch.randn(50)
    moved, memory = strategy.move(theta, gradient, torch.tensor(1.0), strategy.remember(theta))
    # The small random weights, 0.01 at most, of 20 hidden units below 1 and of θ, change the odds
    # by a quarter at most.
    assert ((memory.i > 0.05 * 0.75) & (memory.i < 0.05 * 1.25)).all()
    assert ((1 - memory.f > 0.01 * 0.75) & (1 - memory.f < 0.01 * 1.25)).all()
    torch.testing.assert_close(moved, memory.f * theta - memory.i * gradient)


def test_gates_differ_between_coordinates_and_steps():
    strategy = shaken(MetaLSTM)
    theta, gradient = torch.randn(2, 6, dtype=torch.float64)
    before = strategy.remember(theta)
    loss = torch.tensor(0.5, dtype=torch.float64)
    moved, first = strategy.move(theta, gradient, loss, before)
    _, second = strategy.move(moved, gradient, loss, first)
    assert len({round(number, 9) for number in first.i.tolist()}) == 6
    assert not torch.isclose(first.i, second.i, rtol=1e-3).any()


def test_a_step_is_computed_in_full_precision():
    """In bfloat16 a forget gate of 0.995 would be 0.996 or 0.992, of weights at every step."""
    torch.manual_seed(0)
    strategy = MetaLSTM(MLP((4,), (5,)), 3)
    theta, gradient = torch.randn(2, 50)
    loss, memory = torch.tensor(0.7), strategy.remember(theta)
    expected, _ = strategy.move(theta, gradient, loss, memory)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = strategy.move(theta, gradient, loss, memory)
    assert torch.equal(found, expected)


def test_the_learner_may_be_frozen_in_part(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = shaken(MetaLSTM)
    strategy.encoder.requires_grad_(False)
    theta = strategy.adapt(episode.support, 3)
    assert {name for name in theta if not name.endswith(("mean", "var"))} == {
        "head.weight",
        "head.bias",
    }


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode((1, 8, 8), tasks=3, shots=[3, 1, 2])
    strategy = shaken(MetaLSTM, inner_steps=2)
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_the_gradient_of_one_step_by_its_gates_agrees_with_finite_differences(make_episode):
    """Gradients and losses of the first step depend on φ only through the start."""
    episode = make_episode((4,), shots=[3, 1, 2], tasks=1)
    torch.manual_seed(0)
    encoder = MLP((4,), (3,))
    strategy = MetaLSTM(encoder, 3, inner_steps=1, inner_learning_rate=0.5, hidden=3).double()
    _, found = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    for name in found:
        if not name.startswith(("encoder.", "head.")):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-8)
    assert found["input_gate.weight"].abs().max() > 1e-4


def test_it_learns_sine_waves():
    torch.manual_seed(0)
    strategy = MetaLSTM(MLP((1,), (20, 20)), 1, inner_steps=3)
    before, after = errors_of_sine_waves(strategy, steps=40)
    assert after < 0.8 * before


@pytest.mark.parametrize(
    "arguments",
    [{"inner_learning_rate": 0.0}, {"inner_learning_rate": 1.0}, {"remembering": 1.0}],
    ids=str,
)
def test_gates_that_cannot_begin_so_are_refused(arguments):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        MetaLSTM(MLP((4,), (5,)), **arguments)
