"""Conv4: shapes, its order of pooling, modulation, independence of inputs."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.encoders import Conv4, feature_size

from .conftest import images, lively


@pytest.mark.parametrize(
    ("input_shape", "pooling", "blocks", "map_shape"),
    [
        ((1, 28, 28), "max", 4, (1, 1)),
        ((1, 28, 28), "stride", 4, (2, 2)),
        ((3, 84, 84), "max", 4, (5, 5)),
        ((3, 33, 20), "max", 2, (8, 5)),
        ((3, 33, 20), "stride", 2, (9, 5)),
        ((2, 16, 16), "max", 4, (1, 1)),
        ((2, 3, 3), "stride", 4, (1, 1)),
    ],
)
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_vectors_are_as_long_as_stated(input_shape, pooling, blocks, map_shape, normalization):
    encoder = Conv4(input_shape, 6, pooling, normalization, blocks).eval()
    assert encoder.out_features == feature_size(encoder) == 6 * map_shape[0] * map_shape[1]
    assert encoder(torch.randn(2, *input_shape)).shape == (2, encoder.out_features)
    assert encoder.input_shape == input_shape
    assert encoder.modulated_channels == (6,) * blocks


def test_the_standard_network_has_the_standard_size():
    encoder = Conv4((3, 84, 84))
    # 3x3 kernels without bias, and a scale and a shift for each of 64 channels, four times.
    assert sum(p.numel() for p in encoder.parameters()) == 9 * 64 * (3 + 3 * 64) + 4 * 2 * 64
    assert encoder.out_features == 1600


@pytest.mark.parametrize("pooling", ["max", "stride"])
def test_a_block_is_convolution_normalisation_relu_pooling(pooling):
    """In the papers' order, ReLU first: the same, since max and ReLU only ever pick."""
    encoder = lively(Conv4((2, 9, 9), 5, pooling, blocks=2))
    x = images(3, 2, 9, 9)
    expected = x
    for convolution, norm in zip(encoder.convolutions, encoder.norms, strict=True):
        stride = 2 if pooling == "stride" else 1
        expected = F.relu(norm(F.conv2d(expected, convolution.weight, stride=stride, padding=1)))
        if pooling == "max":
            expected = F.max_pool2d(expected, 2)
    # Rounding only: folded into the convolutions, normalisation is summed in another order.
    torch.testing.assert_close(encoder(x), expected.flatten(1), rtol=1e-12, atol=1e-12)
    assert (expected == 0).any()
    assert (expected > 0).any()


@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("training", [True, False])
def test_a_vector_may_hold_several_blocks(pooling, training):
    encoder = lively(Conv4((2, 8, 8), 5, pooling, blocks=3, joined_blocks=2)).train(training)
    shorter, whole = (
        lively(Conv4((2, 8, 8), 5, pooling, blocks=blocks)).train(training) for blocks in (2, 3)
    )
    whole.load_state_dict(encoder.state_dict())
    shorter.load_state_dict(encoder.state_dict(), strict=False)
    x = images(3, 2, 8, 8)
    expected = torch.cat([shorter(x), whole(x)], dim=1)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-12, atol=1e-12)
    assert encoder.out_features == expected.shape[1]
    with pytest.raises(ValueError, match="4 blocks were to be joined, of 3"):
        Conv4((2, 8, 8), blocks=3, joined_blocks=4)


@pytest.mark.parametrize("pooling", ["max", "stride"])
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_in_evaluation_an_output_depends_on_its_own_input_only(pooling, normalization):
    encoder = lively(Conv4((2, 8, 8), 4, pooling, normalization, blocks=2))
    x = images(5, 2, 8, 8)
    together = encoder(x)
    # Rounding only: a batch of another size may be summed in another order.
    torch.testing.assert_close(encoder(x[2:3])[0], together[2], rtol=1e-12, atol=1e-12)
    others = torch.cat([100 * images(2, 2, 8, 8, seed=2), x[2:3], x[:2]])
    torch.testing.assert_close(encoder(others)[2], together[2], rtol=1e-12, atol=1e-12)


def test_in_training_batch_normalisation_sees_the_batch():
    encoder = lively(Conv4((2, 8, 8), 4, blocks=2)).train()
    x = images(5, 2, 8, 8)
    assert not torch.allclose(encoder(x)[:1], encoder(torch.cat([x[:1], 3 * x[1:]]))[:1])


def test_no_modulation_and_zeros_are_the_same():
    encoder = lively(Conv4((2, 8, 8), 4, blocks=2))
    x = images(3, 2, 8, 8)
    zeros = [(torch.zeros(3, 4, dtype=torch.float64),) * 2] * 2
    torch.testing.assert_close(encoder(x, zeros), encoder(x), rtol=1e-12, atol=1e-12)  # rounding


def test_modulation_scales_and_shifts_each_channel_of_each_input_before_relu():
    encoder = lively(Conv4((2, 8, 8), 4, blocks=2))
    x, scale, shift = images(3, 2, 8, 8), images(2, 3, 4, seed=2), images(2, 3, 4, seed=3)
    expected = []
    for b in range(3):
        y = x[b : b + 1]
        for block in range(2):
            y = encoder.norms[block](F.conv2d(y, encoder.convolutions[block].weight, padding=1))
            for channel in range(4):
                factor = 1 + scale[block, b, channel]
                y[0, channel] = factor * y[0, channel] + shift[block, b, channel]
            y = F.relu(F.max_pool2d(y, 2))
        expected.append(y.flatten())
    got = encoder(x, list(zip(scale, shift, strict=True)))
    # Rounding only: inputs are convolved one by one here and together there.
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("input_shape", [(1, 15, 28), (1, 28, 8)])
def test_images_that_cannot_be_halved_are_refused(input_shape):
    with pytest.raises(ValueError, match="too small to be halved 4 times"):
        Conv4(input_shape)


@pytest.mark.parametrize("input_shape", [(28, 28), (1, 1, 28, 28), (0, 28, 28)])
def test_what_is_no_image_shape_is_refused(input_shape):
    with pytest.raises(ValueError, match=r"Conv4 reads images \[channels, height, width\]"):
        Conv4(input_shape)


def test_unknown_choices_are_refused_by_name():
    with pytest.raises(ValueError, match="pooling 'mean' is unknown"):
        Conv4(pooling="mean")
    with pytest.raises(ValueError, match="normalisation 'layer' is unknown"):
        Conv4(normalization="layer")


def test_an_encoder_that_states_no_length_gets_a_plain_error():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        feature_size(torch.nn.Flatten())
