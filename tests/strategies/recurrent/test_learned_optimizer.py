"""The learned optimiser against torch's own LSTM, and as a strategy against plain loops."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.strategies import LearnedOptimizer
from quickstudy.strategies.recurrent.learned_optimizer import CoordinatewiseLSTM

from ..coordinatewise_by_hand import (
    lstm_by_hand,
    meta_gradient_by_hand,
    preprocessed_by_hand,
    zeros_by_hand,
)
from ..inner_loops_by_hand import leaves, shaken
from ..meta_gradients import SAME, as_on_a_gpu, errors_of_sine_waves, gradients_of

HIDDEN, SCALE = 4, 0.2


def in_float64(**arguments):
    torch.manual_seed(0)
    return CoordinatewiseLSTM(**arguments).double()


# --- the optimiser ---


def test_a_sequence_of_steps_is_that_of_torchs_two_layer_lstm():
    optimizer = in_float64()
    hidden = 20
    torchs = nn.LSTM(2, hidden, 2).double()
    order = torch.cat([torch.arange(4 * hidden).view(4, hidden)[n] for n in (0, 1, 3, 2)])
    with torch.no_grad():
        for layer, inputs in enumerate((2, hidden)):
            weight, bias = optimizer.lstm.weights[layer], optimizer.lstm.biases[layer]
            getattr(torchs, f"weight_ih_l{layer}").copy_(weight[order, :inputs])
            getattr(torchs, f"weight_hh_l{layer}").copy_(weight[order, inputs:])
            getattr(torchs, f"bias_ih_l{layer}").copy_(bias[order, 0])
            getattr(torchs, f"bias_hh_l{layer}").zero_()
    gradients = torch.randn(7, 5).double() * 10 ** torch.linspace(-6, 2, 7).double()[:, None]
    read = torch.stack([preprocessed_by_hand(each) for each in gradients])  # [steps, n, 2]
    expected = 0.1 * optimizer.output(torchs(read)[0])[..., 0]
    memory = optimizer.init(gradients[0])
    for gradient, move in zip(gradients, expected, strict=True):
        found, memory = optimizer.step(gradient, memory)
        torch.testing.assert_close(found, move)


def test_coordinates_of_any_shape_move_by_themselves():
    optimizer = in_float64(hidden=6)
    gradients = torch.randn(3, 2, 5, 4).double()  # of three steps
    memory, alone = optimizer.init(gradients[0]), optimizer.init(gradients[0, 1, 2, 3])
    for gradient in gradients:
        moves, memory = optimizer.step(gradient, memory)
        move, alone = optimizer.step(gradient[1, 2, 3], alone)
        assert moves.shape == (2, 5, 4)
        torch.testing.assert_close(moves[1, 2, 3], move)


def test_its_first_moves_are_small_and_not_the_same_for_all():
    optimizer = in_float64()
    gradient = torch.randn(1000).double()
    moves, _ = optimizer.step(gradient, optimizer.init(gradient))
    assert 1e-4 < moves.abs().max() < 0.05
    assert moves.std() > 1e-5


def test_an_optimiser_that_cannot_move_is_refused():
    with pytest.raises(ValueError, match="needs more than 0"):
        CoordinatewiseLSTM(scale=0.0)


# --- the strategy ---


def equations(phi, layers):
    """How the memory begins, and a step, as ``meta_gradient_by_hand`` takes them."""

    def move(theta, gradient, loss, state):
        h, state = lstm_by_hand(phi, "optimizer.lstm", preprocessed_by_hand(gradient), state)
        output = h @ phi["optimizer.output.weight"][0] + phi["optimizer.output.bias"]
        return theta + SCALE * output, state

    return (lambda coordinates: zeros_by_hand(layers, coordinates, HIDDEN)), move


@pytest.mark.parametrize("transductive", [False, True], ids=["inductive", "transductive"])
@pytest.mark.parametrize(("steps", "layers"), [(1, 2), (4, 2), (3, 1)])
def test_the_meta_gradient_is_that_of_its_equations(make_episode, steps, layers, transductive):
    episode = make_episode((1, 8, 8), shots=[3, 2, 1])
    strategy = shaken(
        LearnedOptimizer,
        inner_steps=steps,
        hidden=HIDDEN,
        layers=layers,
        scale=SCALE,
        transductive=transductive,
    )
    phi = leaves(strategy)
    expected = meta_gradient_by_hand(
        phi, episode, steps, *equations(phi, layers), transductive=transductive
    )
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode((1, 8, 8), tasks=3, shots=[3, 1, 2])
    strategy = shaken(LearnedOptimizer, inner_steps=2)
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_test_inner_steps_count_in_evaluation_only(make_episode):
    support = make_episode((1, 8, 8)).support
    strategy = shaken(LearnedOptimizer, inner_steps=1, test_inner_steps=3)
    for training, steps in ((True, 1), (False, 3)):
        expected = shaken(LearnedOptimizer, inner_steps=steps).adapt(support, 3)
        torch.testing.assert_close(strategy.train(training).adapt(support, 3), expected)


def test_it_learns_sine_waves():
    torch.manual_seed(0)
    strategy = LearnedOptimizer(MLP((1,), (20, 20)), 1, inner_steps=3)
    before, after = errors_of_sine_waves(strategy, steps=40)
    assert after < 0.9 * before
