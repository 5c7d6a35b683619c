"""A block taken a few images at a time equals the plain layers, to all orders."""

import copy

import pytest
import torch
import torch.nn.functional as F

from quickstudy.encoders import Conv4
from quickstudy.encoders.cpu import pooled_block
from quickstudy.encoders.cpu.layout import channels_last
from quickstudy.encoders.normalization import TaskBatchNorm
from quickstudy.encoders.task_normalization import recorded_statistics, with_task_batch_norm

from ..conftest import images, lively

# Two ways to sum the same numbers in float64.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture
def in_pieces(monkeypatch):
    """One image of 8x8 and nine channels at a time, four of 4x4."""
    monkeypatch.setattr(pooled_block, "CACHED_BYTES", 9 * 64 * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.fixture
def calls(monkeypatch):
    """How often blocks were taken in pieces."""
    made = []
    for name in ("_Pooled", "_NormalizedAndPooled"):
        function = getattr(pooled_block, name)
        plain = function.apply

        def counting(*arguments, name=name, plain=plain):
            made.append(name)
            return plain(*arguments)

        monkeypatch.setattr(function, "apply", counting)
    return made


def encoder_of(channels, norm="ordinary", training=True):
    encoder = lively(Conv4((channels, 8, 8), 9, blocks=2))
    with torch.no_grad():
        for layer in encoder.norms:
            layer.weight[::2] *= -1  # pooling must not take its maxima for the plain ones
    if norm == "task":
        encoder = with_task_batch_norm(encoder)
    return encoder.double().train(training)


def plain(parameters, x):
    for block in range(2):
        x = F.conv2d(x, parameters[f"convolutions.{block}.weight"], padding=1)
        scale, shift = (parameters[f"norms.{block}.{name}"] for name in ("weight", "bias"))
        x = F.relu(F.max_pool2d(F.batch_norm(x, None, None, scale, shift, training=True), 2))
    return x.flatten(1)


@pytest.mark.parametrize("norm", ["ordinary", "task"])
@pytest.mark.parametrize("channels", [1, 3])  # three: patches are larger than the output
def test_values_and_derivatives_are_those_of_the_plain_layers(in_pieces, calls, channels, norm):
    encoder, x = encoder_of(channels, norm), images(7, channels, 8, 8)
    direction = images(7, encoder.out_features, seed=3)
    names, parameters = zip(*encoder.named_parameters(), strict=True)

    def derivatives(forward):
        output = forward(x)
        first = torch.autograd.grad((output * direction).sum(), parameters, create_graph=True)
        second = torch.autograd.grad(sum(each.pow(3).sum() for each in first), parameters)
        return output, dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))

    got = derivatives(encoder)
    kinds = ("_Pooled" if channels == 1 else "_NormalizedAndPooled", "_NormalizedAndPooled")
    assert tuple(calls) == kinds
    expected = derivatives(lambda x: plain(dict(encoder.named_parameters()), x))
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
    # The way back that is not differentiated again is another piece of code.
    once = torch.autograd.grad((encoder(x) * direction).sum(), parameters)
    torch.testing.assert_close(dict(zip(names, once, strict=True)), expected[1], **ROUNDING)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_of_the_images_is_the_plain_one(in_pieces, channels):
    encoder = encoder_of(channels)
    x, same = (images(5, channels, 8, 8).requires_grad_() for _ in range(2))
    direction = images(5, encoder.out_features, seed=3)
    (encoder(x) * direction).sum().backward()
    (plain(dict(encoder.named_parameters()), same) * direction).sum().backward()
    torch.testing.assert_close(x.grad, same.grad, **ROUNDING)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_averages_are_kept_as_ever(in_pieces, monkeypatch, momentum):
    encoder, x = encoder_of(3), images(5, 3, 8, 8)
    for layer in encoder.norms:
        layer.momentum = momentum
    whole = copy.deepcopy(encoder)
    encoder(x)
    monkeypatch.setattr(pooled_block, "CACHED_BYTES", 2**40)
    whole(x)
    expected = dict(whole.named_buffers())
    torch.testing.assert_close(dict(encoder.named_buffers()), expected, **ROUNDING)


def test_statistics_that_are_recorded_can_be_differentiated(in_pieces):
    encoder = encoder_of(3, "task")
    with recorded_statistics(encoder) as statistics:
        encoder(images(5, 3, 8, 8))
    assert len(statistics) == 4
    assert all(each.requires_grad for each in statistics.values())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_trained_network_answers_as_the_plain_layers(in_pieces, calls, channels):
    encoder, x = encoder_of(channels, training=False), images(7, channels, 8, 8)
    with torch.no_grad():
        got = encoder(x)
        assert calls == ["_Pooled", "_Pooled"]
        for convolution, norm in zip(encoder.convolutions, encoder.norms, strict=True):
            x = F.relu(F.max_pool2d(norm(convolution(x)), 2))
    torch.testing.assert_close(got, x.flatten(1), **ROUNDING)


def test_statistics_that_belong_to_theta_are_differentiated(in_pieces):
    encoder, x = encoder_of(1, "task", training=False), images(5, 1, 8, 8)
    statistics = {name: buffer.clone().requires_grad_() for name, buffer in encoder.named_buffers()}

    def gradients(function):
        return torch.autograd.grad(function().pow(2).sum(), list(statistics.values()))

    got = gradients(lambda: torch.func.functional_call(encoder, statistics, (x,)))

    def by_hand():
        maps = x
        for block in range(2):
            maps, norm = encoder.convolutions[block](maps), encoder.norms[block]
            mean, var = (statistics[f"norms.{block}.{name}"] for name in ("mean", "var"))
            maps = (maps - mean.view(-1, 1, 1)) / (var + norm.eps).sqrt().view(-1, 1, 1)
            maps = maps * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
            maps = F.relu(F.max_pool2d(maps, 2))
        return maps.flatten(1)

    assert isinstance(encoder.norms[0], TaskBatchNorm)
    torch.testing.assert_close(got, gradients(by_hand), **ROUNDING)


def test_equal_maxima_count_once(in_pieces):
    """A blank image has nothing but ties; as with torch the first of each is the maximum."""
    kernel, bias = images(9, 2, 3, 3).requires_grad_(), images(9).requires_grad_()
    x = channels_last(torch.ones(5, 2, 8, 8, dtype=torch.float64)).requires_grad_()
    direction = images(5, 9, 4, 4, seed=3)
    given = (x, kernel, bias)
    blocks = (pooled_block.convolved_and_pooled, pooled_block._Pooled.plain)
    got, expected = (
        torch.autograd.grad((block(*given) * direction).sum(), given) for block in blocks
    )
    torch.testing.assert_close(got, expected, **ROUNDING)


@pytest.mark.parametrize("channels", [1, 3])
def test_half_precision_costs_no_more_than_that_of_the_plain_layers(
    in_pieces, monkeypatch, channels
):
    encoder, x = encoder_of(channels).float(), images(7, channels, 8, 8).float()
    direction = images(7, encoder.out_features, seed=3).float()

    def gradients(half):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = encoder(x)
        assert output.dtype == (torch.bfloat16 if half else torch.float32)
        found = torch.autograd.grad((output.float() * direction).sum(), encoder.parameters())
        assert all(each.dtype == torch.float32 for each in found)
        return torch.cat([output.flatten().float(), *(each.flatten() for each in found)])

    in_full, in_half = gradients(False), gradients(True)
    monkeypatch.setattr(pooled_block, "CACHED_BYTES", 2**40)
    plain_half = gradients(True)
    assert (in_half - in_full).norm() < 1.5 * (plain_half - in_full).norm()
