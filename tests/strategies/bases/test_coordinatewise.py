"""What descends coordinate by coordinate: the preprocessing, and the LSTM against torch's own."""

import math

import pytest
import torch
from torch import nn

from quickstudy.strategies.bases.coordinatewise import SharedLSTM, preprocessed

from ..coordinatewise_by_hand import lstm_by_hand, preprocessed_by_hand, zeros_by_hand


@pytest.mark.parametrize(
    ("x", "size", "sign"),
    [
        (1.0, 0.0, 1.0),
        (-1.0, 0.0, -1.0),
        (math.exp(5), 0.5, 1.0),
        (-math.exp(-5), -0.5, -1.0),
        (math.exp(-9.99), -0.999, 1.0),
        (math.exp(-11), -1.0, math.exp(-1)),
        (-math.exp(-13), -1.0, -math.exp(-3)),
        (0.0, -1.0, 0.0),
    ],
)
def test_numbers_become_their_size_and_their_sign(x, size, sign):
    found = preprocessed(torch.tensor([x], dtype=torch.float64))
    torch.testing.assert_close(found[:, 0], torch.tensor([size, sign], dtype=torch.float64))


def test_another_p_moves_where_numbers_count_as_small():
    found = preprocessed(torch.tensor([math.exp(-1), math.exp(-3)]).double(), p=2.0)
    expected = torch.tensor([[-0.5, -1.0], [1.0, math.exp(-1)]]).double()
    torch.testing.assert_close(found, expected)


def test_numbers_of_all_sizes_are_preprocessed_as_by_hand():
    torch.manual_seed(0)
    x = torch.randn(200).double() * 10 ** torch.linspace(-9, 3, 200).double()
    torch.testing.assert_close(preprocessed(x).T, preprocessed_by_hand(x))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_shared_lstm_is_torchs_with_coordinates_for_a_batch(layers):
    torch.manual_seed(0)
    lstm = SharedLSTM(3, hidden=5, layers=layers).double()
    phi = dict(lstm.named_parameters(prefix="lstm"))
    memory, state = lstm.init(torch.empty(2, 4).double()), zeros_by_hand(layers, 8, 5)
    for _ in range(4):
        x = torch.randn(3, 8).double()
        h, memory = lstm.step(x, memory)
        expected, state = lstm_by_hand(phi, "lstm", x.T, state)
        torch.testing.assert_close(h.T, expected)
        for ours, theirs in zip(memory, state, strict=True):
            torch.testing.assert_close(ours[0].T, theirs[0])
            torch.testing.assert_close(ours[1].T, theirs[1])


def test_its_weights_begin_as_those_of_torchs_do():
    torch.manual_seed(0)
    ours = torch.cat([each.flatten() for each in SharedLSTM(30, 16).weights])
    theirs = nn.LSTM(30, 16).weight_ih_l0
    assert ours.abs().max() <= 0.25  # 1 / sqrt(16)
    # Standard deviations of three thousand uniform numbers, known to 2 %.
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.05)


@pytest.mark.parametrize("sizes", [(0, 5, 1), (3, 0, 1), (3, 5, 0)])
def test_an_lstm_of_nothing_is_refused(sizes):
    with pytest.raises(ValueError, match="each must be at least 1"):
        SharedLSTM(*sizes)
