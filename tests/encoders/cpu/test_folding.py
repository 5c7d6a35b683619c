"""Normalisation folded into the convolution equals normalisation after it, to all orders."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from quickstudy.encoders import Conv4
from quickstudy.encoders.cpu.folding import folded, patch_moments
from quickstudy.encoders.normalization import (
    TaskBatchNorm,
)
from quickstudy.encoders.task_normalization import recorded_statistics, with_task_batch_norm

from ..conftest import images, lively

# Two ways to sum the same numbers in float64; variances divide the rounding by up to a hundred.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


def pair(channels, outputs, norm, stride=1):
    network = nn.Sequential(nn.Conv2d(channels, outputs, 3, stride, 1, bias=False), norm(outputs))
    return lively(network)


def both_ways(network, x):
    convolution, norm = network
    before = copy.deepcopy(network)
    kernel, bias = folded(convolution, norm, x)
    got = F.conv2d(x, kernel, bias, convolution.stride, padding=1)
    return got, before(x), before


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, TaskBatchNorm])
def test_folded_and_plain_are_equal(norm, training, stride):
    network = pair(1, 9, norm, stride).train(training)
    got, expected, _ = both_ways(network, images(4, 1, 7, 6))
    torch.testing.assert_close(got, expected, **ROUNDING)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_averages_are_kept_as_ever(momentum):
    network = pair(1, 9, nn.BatchNorm2d).train()
    network[1].momentum = momentum
    plain = copy.deepcopy(network)
    for seed in range(3):
        x = images(4, 1, 7, 6, seed=seed)
        plain(x)
        folded(*network, x)
    for name, expected in plain[1].state_dict().items():
        torch.testing.assert_close(network[1].state_dict()[name], expected, **ROUNDING)


def test_statistics_are_recorded():
    network, x = pair(2, 20, TaskBatchNorm).train(), images(4, 2, 7, 6)
    with recorded_statistics(network) as plain:
        network(x)
    with recorded_statistics(network) as from_patches:
        folded(*network, x)
    torch.testing.assert_close(dict(from_patches), dict(plain), **ROUNDING)


def test_the_moments_are_those_of_all_patches():
    x = images(3, 2, 5, 4)
    convolution = nn.Conv2d(2, 30, 3, 2, 1)
    mean, covariance, number = patch_moments(convolution, x)
    padded = F.pad(x, (1, 1, 1, 1))
    patches = torch.stack(
        [
            padded[image, :, row : row + 3, column : column + 3].flatten()
            for image in range(3)
            for row in (0, 2, 4)
            for column in (0, 2)
        ]
    )
    assert number == len(patches)
    torch.testing.assert_close(mean, patches.mean(0), **ROUNDING)
    torch.testing.assert_close(covariance, torch.cov(patches.T, correction=0), **ROUNDING)


@pytest.mark.parametrize(
    "why",
    ["patches are larger than the output", "the input needs a gradient", "another normalisation"],
)
def test_where_it_would_not_pay_nothing_is_folded(why):
    x = images(4, 1, 7, 6)
    if why.startswith("patches"):
        network = pair(1, 8, nn.BatchNorm2d)
    elif why.startswith("another"):
        network = lively(nn.Sequential(nn.Conv2d(1, 9, 3, bias=False), nn.GroupNorm(3, 9)))
    else:
        network, x = pair(1, 9, nn.BatchNorm2d), x.requires_grad_()
    assert folded(*network.train(), x) is None


@pytest.mark.parametrize("pooling", ["max", "stride"])
def test_first_and_second_derivatives_of_an_encoder_are_those_of_the_plain_layers(pooling):
    encoder = with_task_batch_norm(lively(Conv4((1, 8, 8), 9, pooling, blocks=2))).train()
    x, direction = images(6, 1, 8, 8), images(6, encoder.out_features, seed=3)
    start = dict(encoder.named_parameters())

    def plain(parameters, x):
        for block in range(2):
            weight = parameters[f"convolutions.{block}.weight"]
            x = F.conv2d(x, weight, stride=2 if pooling == "stride" else 1, padding=1)
            scale, shift = (parameters[f"norms.{block}.{name}"] for name in ("weight", "bias"))
            x = F.relu(F.batch_norm(x, None, None, scale, shift, training=True))
            x = F.max_pool2d(x, 2) if pooling == "max" else x
        return x.flatten(1)

    def derivatives(forward):
        names, parameters = zip(*start.items(), strict=True)
        value = (forward(start, x) * direction).sum()
        first = torch.autograd.grad(value, parameters, create_graph=True)
        second = torch.autograd.grad(sum(each.pow(3).sum() for each in first), parameters)
        return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))

    got = derivatives(lambda parameters, x: functional_call(encoder, parameters, (x,)))
    torch.testing.assert_close(got, derivatives(plain), rtol=1e-7, atol=1e-7)


def test_half_precision_keeps_the_statistics_in_full():
    torch.manual_seed(0)
    encoder, x = Conv4((1, 28, 28)).train(), torch.rand(20, 1, 28, 28) + 100
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        kernel, _ = folded(encoder.convolutions[0], encoder.norms[0], x)
    full, _ = folded(encoder.convolutions[0], encoder.norms[0], x)
    assert kernel.dtype == torch.float32
    torch.testing.assert_close(kernel, full)
    assert expected.isfinite().all()


def test_smooth_images_and_a_kernel_of_differences_keep_their_digits():
    """Where almost all of a patch's variance is in what the kernel does not see."""
    ramp = torch.linspace(0, 30, 28, dtype=torch.float64).expand(40, 1, 28, 28)
    x = ramp + images(40, 1, 1, 1) + 0.01 * images(40, 1, 28, 28, seed=2)
    network = pair(1, 9, TaskBatchNorm).train()
    network[0].padding = (0, 0)  # a border would vary the most
    with torch.no_grad():
        network[0].weight -= network[0].weight.mean((2, 3), keepdim=True)
    exact, _ = folded(*network, x)
    single, _ = folded(*network.float(), x.float())
    # Float32 has seven digits; statistics in float32 would leave one here.
    torch.testing.assert_close(single.double(), exact, rtol=2e-6, atol=2e-6)
