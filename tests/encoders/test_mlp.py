"""MLP: its layers, and what it refuses."""

import pytest
import torch

from quickstudy.encoders import MLP


@pytest.mark.parametrize("input_shape", [(5,), (1, 28, 28), (2, 3, 4, 5)])
@pytest.mark.parametrize("hidden", [(7,), (8, 6, 3)])
def test_vectors_are_as_long_as_stated(input_shape, hidden):
    encoder = MLP(input_shape, hidden)
    assert encoder.out_features == hidden[-1]
    assert encoder.input_shape == input_shape
    assert encoder(torch.randn(4, *input_shape)).shape == (4, hidden[-1])


def test_every_layer_is_linear_then_relu():
    encoder = MLP((2, 3), hidden=(5, 4)).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    first, second = encoder.layers
    hidden = (x.reshape(7, 6) @ first.weight.T + first.bias).clamp(min=0)
    expected = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-12, atol=1e-12)  # rounding


def test_a_modulation_scales_and_shifts_each_layer_before_its_relu():
    encoder = MLP((2, 3), hidden=(5, 4)).double()
    assert encoder.modulated_channels == (5, 4)
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    (a, b), (c, d) = ((torch.randn(2, 7, n, dtype=torch.float64)) for n in (5, 4))
    first, second = encoder.layers
    hidden = ((x.reshape(7, 6) @ first.weight.T + first.bias) * (1 + a) + b).clamp(min=0)
    expected = ((hidden @ second.weight.T + second.bias) * (1 + c) + d).clamp(min=0)
    got = encoder(x, [(a, b), (c, d)])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)  # rounding


def test_an_output_depends_on_its_own_input_only():
    encoder = MLP((6,), hidden=(5, 4)).double().eval()
    x = torch.randn(5, 6, dtype=torch.float64)
    alone = encoder(x[2:3])[0]
    torch.testing.assert_close(alone, encoder(x)[2], rtol=1e-12, atol=1e-12)  # rounding


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="at least one hidden width"):
        MLP((6,), hidden=())
