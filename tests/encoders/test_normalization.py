"""TaskBatchNorm: batch statistics in training, given ones in evaluation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from quickstudy.encoders import Conv4, ResNet12
from quickstudy.encoders.normalization import (
    LayerNorm,
    TaskBatchNorm,
    normalization_layer,
)
from quickstudy.encoders.task_normalization import (
    recorded_statistics,
    task_batch_norms,
    with_task_batch_norm,
)

SHAPES = [(6, 3), (6, 3, 5), (6, 3, 5, 4)]


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64) + 1


def layer_of(features=3):
    layer = TaskBatchNorm(features).double()
    with torch.no_grad():
        layer.weight.copy_(numbers(features, seed=1))
        layer.bias.copy_(numbers(features, seed=2))
    return layer


def channelwise(vector, x):
    return vector.view(1, -1, *[1] * (x.ndim - 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_in_training_it_normalises_by_the_batch_and_keeps_nothing(shape):
    layer, x = layer_of(), numbers(*shape)
    expected = F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=1e-5)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)  # rounding
    axes = [0, *range(2, x.ndim)]
    mean, var = x.mean(axes), x.var(axes, correction=0)
    by_hand = (x - channelwise(mean, x)) / channelwise(var + 1e-5, x).sqrt()
    by_hand = by_hand * channelwise(layer.weight, x) + channelwise(layer.bias, x)
    torch.testing.assert_close(layer(x), by_hand, rtol=1e-10, atol=1e-10)  # rounding
    assert torch.equal(layer.mean, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(layer.var, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_in_evaluation_it_normalises_by_given_statistics(shape):
    layer, x = layer_of().eval(), numbers(*shape)
    mean, var = numbers(3, seed=3), numbers(3, seed=4).square()
    got = functional_call(layer, {"mean": mean, "var": var}, (x,))
    by_hand = (x - channelwise(mean, x)) / channelwise(var + 1e-5, x).sqrt()
    by_hand = by_hand * channelwise(layer.weight, x) + channelwise(layer.bias, x)
    torch.testing.assert_close(got, by_hand, rtol=1e-10, atol=1e-10)  # rounding
    assert torch.equal(layer.mean, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_recorded_statistics_reproduce_the_batch(shape):
    """Evaluation with a batch's recorded statistics equals training on that batch."""
    network, x = nn.Sequential(layer_of(), nn.Tanh(), layer_of()), numbers(*shape)
    with recorded_statistics(network) as statistics:
        in_training = network(x)
    assert set(statistics) == {"0.mean", "0.var", "2.mean", "2.var"}
    axes = [0, *range(2, x.ndim)]
    torch.testing.assert_close(statistics["0.mean"], x.mean(axes))
    torch.testing.assert_close(statistics["0.var"], x.var(axes, correction=0))
    network.eval()
    again = functional_call(network, statistics, (x,))
    torch.testing.assert_close(again, in_training, rtol=1e-10, atol=1e-10)  # rounding
    one = functional_call(network, statistics, (x[:1],))
    torch.testing.assert_close(one, in_training[:1], rtol=1e-10, atol=1e-10)


def test_recording_ends_with_its_block_also_after_an_error():
    network = nn.Sequential(layer_of())
    with pytest.raises(RuntimeError, match="stop"), recorded_statistics(network) as statistics:
        raise RuntimeError("stop")
    network(numbers(6, 3))
    assert statistics == {}


def test_gradients_reach_given_statistics():
    layer = layer_of(2).eval()

    def call(x, weight, bias, mean, var):
        given = {"weight": weight, "bias": bias, "mean": mean, "var": var}
        return functional_call(layer, given, (x,))

    arguments = [numbers(4, 2, 3), *(numbers(2, seed=s) for s in (1, 2, 3)), numbers(2).square()]
    arguments = [argument.requires_grad_() for argument in arguments]
    assert torch.autograd.gradcheck(call, arguments)
    assert torch.autograd.gradgradcheck(call, arguments)


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 6, 3, 4, 4)])
def test_second_derivatives_are_right_for_many_tasks_at_once(shape):
    """As an outer step through inner gradients of several tasks needs them."""
    layer, x = layer_of(), numbers(*shape)
    start = [numbers(3, 3, seed=5), layer.weight.detach(), layer.bias.detach()]
    start = [parameter.requires_grad_() for parameter in start]

    def loss(parameters, own):
        mixing, weight, bias = parameters
        mixed = torch.einsum("nc...,cd->nd...", own, mixing)
        return functional_call(layer, {"weight": weight, "bias": bias}, (mixed,)).pow(3).mean()

    inner = torch.func.grad(loss)
    at_once = torch.func.vmap(inner, in_dims=(None, 0))(start, x)
    one_by_one = [torch.stack(each) for each in zip(*(inner(start, own) for own in x), strict=True)]
    got, expected = (
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), start)
        for gradients in (at_once, one_by_one)
    )
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)  # rounding


def test_statistics_are_no_part_of_a_saved_model():
    assert set(layer_of().state_dict()) == {"weight", "bias"}


def test_every_batch_normalisation_is_replaced_and_its_affine_parameters_are_shared():
    network = nn.Sequential(
        nn.BatchNorm1d(3, eps=1e-3), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), nn.GroupNorm(2, 4)
    )
    replaced = with_task_batch_norm(network)
    assert list(task_batch_norms(replaced)) == ["0", "1.1"]
    before, after = dict(network.named_parameters()), dict(replaced.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert replaced[0].eps == 1e-3
    assert isinstance(replaced[2], nn.GroupNorm)
    assert not task_batch_norms(network)
    assert [type(layer) for layer in network[1]] == [nn.ReLU, nn.BatchNorm2d]


def test_a_batch_normalisation_by_itself_is_replaced_too():
    norm = nn.BatchNorm1d(3)
    replaced = with_task_batch_norm(norm)
    assert isinstance(replaced, TaskBatchNorm)
    assert replaced.weight is norm.weight


@pytest.mark.parametrize(
    "encoder",
    [Conv4((2, 8, 8), 4, blocks=2), ResNet12((2, 8, 8), (4, 4), drop_rate=0.0)],
    ids=["Conv4", "ResNet12"],
)
def test_in_training_an_encoder_computes_the_same_with_either_kind(encoder):
    replaced = with_task_batch_norm(copy.deepcopy(encoder))
    assert task_batch_norms(replaced)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in replaced.modules())
    x = numbers(5, 2, 8, 8)
    expected = encoder.double()(x)
    torch.testing.assert_close(replaced.double()(x), expected, rtol=1e-10, atol=1e-10)  # rounding


@pytest.mark.parametrize(("channels", "groups"), [(64, 8), (6, 6), (12, 6), (11, 1), (1, 1)])
def test_group_normalisation_takes_up_to_eight_equal_groups(channels, groups):
    assert normalization_layer("group", channels).num_groups == groups


# --- LayerNorm ---


def test_layer_norm_is_torchs_own_with_and_without_transformations():
    layer = LayerNorm(3).double()
    layer.load_state_dict({"weight": numbers(3, seed=1), "bias": numbers(3, seed=2)})
    x = numbers(2, 5, 3)
    expected = F.layer_norm(x, (3,), layer.weight, layer.bias)
    for got in (layer(x), torch.func.vmap(layer)(x)):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)  # rounding


def test_second_derivatives_of_layer_norm_are_right_for_all_tasks_at_once():
    """Those of torch's own layer are not, where its weights differ from task to task."""
    layer, x = LayerNorm(3).double(), numbers(2, 5, 3)
    theta = {"weight": numbers(3, seed=1), "bias": numbers(3, seed=2)}
    theta = {name: value.requires_grad_() for name, value in theta.items()}

    def loss(theta, x):
        return functional_call(layer, theta, (x,)).pow(3).sum()

    def after_a_step(x):
        gradients = torch.func.grad(loss)(theta, x)
        return loss({name: theta[name] - 1e-3 * gradients[name] for name in theta}, x)

    def after_a_step_by_autograd(x):
        gradients = torch.autograd.grad(loss(theta, x), theta.values(), create_graph=True)
        moved = zip(theta, gradients, strict=True)
        return loss({name: theta[name] - 1e-3 * each for name, each in moved}, x)

    at_once = torch.func.vmap(after_a_step)(x).sum()
    one_by_one = sum(after_a_step_by_autograd(task) for task in x)
    for got, expected in zip(
        torch.autograd.grad(at_once, theta.values()),
        torch.autograd.grad(one_by_one, theta.values()),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)  # rounding
