"""ResNet12 and DropBlock."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from quickstudy.encoders import ResNet12
from quickstudy.encoders.resnet12 import DropBlock

from .conftest import images, lively

WIDTHS = (3, 4, 5, 6)


def small(input_shape=(2, 16, 16), **more):
    return ResNet12(input_shape, WIDTHS, **more)


@pytest.mark.parametrize(
    ("input_shape", "side"),
    [((3, 32, 32), 2), ((3, 84, 84), 5), ((1, 16, 16), 1), ((2, 17, 40), 2)],
)
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_vectors_are_as_long_as_stated(input_shape, side, pool, normalization):
    encoder = small(input_shape, pool=pool, normalization=normalization).eval()
    map_size = 1 if pool else side * (input_shape[1] // 16)
    assert encoder.out_features == 6 * map_size
    assert encoder(torch.randn(2, *input_shape)).shape == (2, encoder.out_features)
    assert encoder.modulated_channels == WIDTHS


def test_the_standard_network_maps_84_pixels_to_640_numbers():
    encoder = ResNet12()
    assert encoder.out_features == 640
    assert ResNet12(pool=False).out_features == 640 * 25
    widths = (3, 64, 160, 320, 640)
    expected = sum(9 * b * (a + 2 * b) + a * b + 8 * b for a, b in pairwise(widths))
    assert sum(p.numel() for p in encoder.parameters()) == expected
    encoder.train()
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 84, 84)).shape == (1, 640)


def test_the_papers_drops_are_in_their_places():
    kinds = [type(block.drop) for block in small().blocks]
    assert kinds == [torch.nn.Dropout, torch.nn.Dropout, DropBlock, DropBlock]


def test_a_block_is_three_convolutions_beside_a_shortcut():
    encoder = lively(ResNet12((2, 6, 6), (4,), pool=False))
    (block,) = encoder.blocks
    x = images(3, 2, 6, 6)
    y = x
    for number in range(3):
        y = block.norms[number](F.conv2d(y, block.convolutions[number].weight, padding=1))
        y = y if number == 2 else F.leaky_relu(y, 0.1)
    y = y + block.shortcut[1](F.conv2d(x, block.shortcut[0].weight))
    expected = F.leaky_relu(F.max_pool2d(y, 2), 0.1).flatten(1)
    assert torch.equal(encoder(x), expected)


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
def test_in_evaluation_an_output_depends_on_its_own_input_only(normalization):
    encoder = lively(small(normalization=normalization))
    x = images(5, 2, 16, 16)
    together = encoder(x)
    # Rounding only: a batch of another size may be summed in another order.
    torch.testing.assert_close(encoder(x[2:3])[0], together[2], rtol=1e-11, atol=1e-11)
    others = torch.cat([100 * images(2, 2, 16, 16, seed=2), x[2:3], x[:2]])
    torch.testing.assert_close(encoder(others)[2], together[2], rtol=1e-11, atol=1e-11)


def test_in_evaluation_nothing_is_dropped():
    encoder = small(drop_rate=0.5, drop_block_warmup=1).eval()
    x = torch.randn(2, 2, 16, 16)
    assert torch.equal(encoder(x), encoder(x))
    assert not torch.equal(encoder.train()(x), encoder(x))


def test_no_modulation_and_zeros_are_the_same():
    encoder = lively(small())
    x = images(3, 2, 16, 16)
    zeros = [(torch.zeros(3, width, dtype=torch.float64),) * 2 for width in WIDTHS]
    assert torch.equal(encoder(x, zeros), encoder(x))


def test_modulation_scales_and_shifts_what_is_added_to_the_shortcut():
    encoder = lively(ResNet12((2, 6, 6), (4,), pool=False))
    (block,) = encoder.blocks
    x, scale, shift = images(3, 2, 6, 6), images(3, 4, seed=2), images(3, 4, seed=3)
    y = x
    for number in range(3):
        y = block.norms[number](F.conv2d(y, block.convolutions[number].weight, padding=1))
        y = y if number == 2 else F.leaky_relu(y, 0.1)
    for b in range(3):
        for channel in range(4):
            y[b, channel] = (1 + scale[b, channel]) * y[b, channel] + shift[b, channel]
    y = y + block.shortcut[1](F.conv2d(x, block.shortcut[0].weight))
    expected = F.leaky_relu(F.max_pool2d(y, 2), 0.1).flatten(1)
    torch.testing.assert_close(encoder(x, [(scale, shift)]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("input_shape", [(3, 15, 84), (3, 84, 8)])
def test_images_that_cannot_be_halved_are_refused(input_shape):
    with pytest.raises(ValueError, match=r"too small to be halved 4 times.*at least 16 pixels"):
        ResNet12(input_shape)


def test_what_is_no_image_shape_is_refused():
    with pytest.raises(ValueError, match="ResNet12 reads images"):
        ResNet12((84, 84))


# --- DropBlock ---


def dropped_from_ones(rate, size, shape=(64, 16, 12, 12), warmup=1, passes=1, seed=0):
    torch.manual_seed(seed)
    drop = DropBlock(rate, size, warmup)
    for _ in range(passes):
        output = drop(torch.ones(shape))
    return output == 0, output


def expected_fraction(rate, size, side):
    """Of dropped units: one is kept when none of the squares that cover it is seeded."""
    gamma = rate / size**2 * side**2 / (side - size + 1) ** 2
    covers = F.conv_transpose2d(
        torch.ones(1, 1, side - size + 1, side - size + 1), torch.ones(1, 1, size, size)
    )
    return float((1 - (1 - gamma) ** covers).mean())


@pytest.mark.parametrize(("rate", "size"), [(0.1, 1), (0.1, 3), (0.1, 5), (0.3, 3)])
def test_a_warm_drop_block_drops_about_its_rate(rate, size):
    dropped, _ = dropped_from_ones(rate, size)
    fraction = float(dropped.double().mean())
    # 1,024 maps with one or more squares each: the standard error is below 3 % of the fraction.
    assert fraction == pytest.approx(expected_fraction(rate, size, 12), rel=0.1)
    # Squares overlap, so a little less than the rate is dropped, and never more.
    assert 0.8 * rate < fraction < 1.1 * rate


def test_the_rate_grows_with_the_training_passes():
    half, _ = dropped_from_ones(0.2, 3, warmup=4, passes=2)
    full, _ = dropped_from_ones(0.2, 3, warmup=4, passes=4)
    beyond, _ = dropped_from_ones(0.2, 3, warmup=4, passes=9)
    for dropped, rate in ((half, 0.1), (full, 0.2), (beyond, 0.2)):
        assert float(dropped.double().mean()) == pytest.approx(
            expected_fraction(rate, 3, 12), rel=0.1
        )


def test_passes_are_counted_in_training_only_and_are_saved():
    drop = DropBlock(0.2, 3, warmup=10)
    for _ in range(3):
        drop(torch.ones(1, 1, 4, 4))
    drop.eval()(torch.ones(1, 1, 4, 4))
    again = DropBlock(0.2, 3, warmup=10)
    again.load_state_dict(drop.state_dict())
    assert int(again.passes) == int(drop.passes) == 3


@pytest.mark.parametrize("size", [2, 3, 5])
def test_what_is_dropped_is_a_union_of_squares(size):
    dropped, _ = dropped_from_ones(0.1, size)
    # Squares that lie wholly in what is dropped, put back together, are all of what is dropped.
    whole = (F.avg_pool2d(dropped.float(), size, stride=1) > 1 - 1e-6).float()
    assert torch.equal(F.max_pool2d(F.pad(whole, (size - 1,) * 4), size, stride=1) == 1, dropped)
    # The smallest hole in a map is one square.
    of_map = dropped.flatten(2).sum(-1)
    assert int(of_map[of_map > 0].min()) == size**2


def test_the_mean_scale_is_kept():
    _, output = dropped_from_ones(0.2, 3)
    assert float(output.mean()) == pytest.approx(1, abs=1e-5)  # float32 rounding of one factor
    assert output.unique().numel() == 2  # nothing but zero and that factor


def test_channels_are_dropped_by_themselves():
    dropped, _ = dropped_from_ones(0.2, 3)
    assert not torch.equal(dropped[:, 0], dropped[:, 1])


def test_a_map_smaller_than_the_square_is_dropped_whole():
    dropped, _ = dropped_from_ones(0.3, 5, shape=(50, 40, 2, 2))
    of_map = dropped.flatten(2).sum(-1)
    assert set(of_map.unique().tolist()) == {0, 4}
    # 2,000 maps: the standard error of the fraction is 0.01.
    assert float((of_map == 4).double().mean()) == pytest.approx(0.3, abs=0.04)


def test_dropping_everything_gives_zeros():
    _, output = dropped_from_ones(1.0, 5, shape=(2, 3, 4, 4))
    assert torch.equal(output, torch.zeros_like(output))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_nothing_is_dropped_in_evaluation_or_at_rate_zero(rate):
    drop = DropBlock(rate, 3, warmup=1)
    drop.train(rate == 0)
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(drop(x), x)
