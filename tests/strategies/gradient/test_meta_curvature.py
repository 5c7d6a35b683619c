"""Meta-Curvature against explicit Kronecker products and finite differences."""

import pytest
import torch
import torch.nn.functional as F

from quickstudy.encoders import MLP, Conv4
from quickstudy.strategies import MAML, MetaCurvature
from quickstudy.strategies.gradient.meta_curvature import curved

from ..meta_gradients import as_on_a_gpu, errors_of_sine_waves, finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-8, "atol": 1e-11}


def tiny(strategy=MetaCurvature, side=8, blocks=2, channels=3, **arguments):
    torch.manual_seed(0)
    encoder = Conv4((2, side, side), channels, blocks=blocks)
    made = strategy(encoder, ways=3, inner_learning_rate=0.2, **arguments).double()
    with torch.no_grad():
        made.head.weight.add_(0.3 * torch.randn_like(made.head.weight))
    return made


def disturbed(strategy):
    """The same, its matrices no longer the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for matrix in strategy.curvature.values():
            matrix.add_(0.3 * torch.randn_like(matrix))
    return strategy


def kronecker(*matrices):
    product = torch.ones(1, 1, dtype=torch.float64)
    for matrix in matrices:
        product = torch.kron(product, matrix)
    return product


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((4,), [4]),
        ((4, 3), [4, 3]),
        ((4, 3, 5), [4, 3, 5]),
        ((4, 3, 2, 3), [4, 3, 6]),
        ((2, 3, 2, 2, 2), [2, 3, 8]),
    ],
    ids=["vector", "linear", "1-d convolution", "2-d convolution", "3-d convolution"],
)
def test_the_curved_gradient_is_a_kronecker_product_times_the_gradient(shape, sizes):
    gradient = torch.randn(shape, dtype=torch.float64)
    matrices = [torch.randn(n, n, dtype=torch.float64) for n in sizes]
    expected = (kronecker(*matrices) @ gradient.flatten()).view(shape)
    torch.testing.assert_close(curved(gradient, iter(matrices)), expected, **SAME)


def test_every_tensor_has_a_matrix_for_each_of_its_modes():
    sizes = {name: matrix.shape[0] for name, matrix in tiny().curvature.items()}
    assert sizes == {
        "encoder_convolutions_0_weight_out": 3,
        "encoder_convolutions_0_weight_in": 2,
        "encoder_convolutions_0_weight_filter": 9,
        "encoder_convolutions_1_weight_out": 3,
        "encoder_convolutions_1_weight_in": 3,
        "encoder_convolutions_1_weight_filter": 9,
        "encoder_norms_0_weight_out": 3,
        "encoder_norms_0_bias_out": 3,
        "encoder_norms_1_weight_out": 3,
        "encoder_norms_1_bias_out": 3,
        "head_weight_out": 3,
        "head_weight_in": 12,
        "head_bias_out": 3,
    }


def test_it_starts_as_maml(make_episode):
    episode = make_episode((2, 8, 8), shots=[3, 1, 2])
    expected = tiny(MAML, inner_steps=2)(episode)
    torch.testing.assert_close(tiny(inner_steps=2)(episode), expected, **SAME)


def test_an_inner_step_goes_along_the_kronecker_product_of_each_tensor(make_episode):
    support = make_episode((2, 8, 8), shots=[3, 1, 2], tasks=1).support
    strategy = disturbed(tiny(inner_steps=1, transductive=True))
    theta = strategy.adapt(support, 3)
    start = strategy.start()
    logits = strategy.outputs(start, support.inputs[0], batch_statistics=True)
    gradients = torch.autograd.grad(
        F.cross_entropy(logits, support.targets[0]), list(start.values())
    )
    for (name, phi), gradient in zip(start.items(), gradients, strict=True):
        key = name.replace(".", "_")
        modes = [f"{key}_{mode}" for mode in ("out", "in", "filter")]
        matrices = [strategy.curvature[mode] for mode in modes if mode in strategy.curvature]
        step = (kronecker(*matrices) @ gradient.flatten()).view_as(phi)
        torch.testing.assert_close(theta[name][0], phi - 0.2 * step, **SAME)


def test_recomputed_inner_steps_give_the_same_gradient(make_episode):
    episode = make_episode((2, 8, 8), shots=[3, 1, 2])
    held, recomputed = (
        gradients_of(disturbed(tiny(inner_steps=3, recompute=recompute)), episode)
        for recompute in (False, True)
    )
    torch.testing.assert_close(held, recomputed, **SAME)


def test_the_meta_gradient_agrees_with_finite_differences(make_episode):
    episode = make_episode((2, 4, 4), shots=[3, 1, 2], tasks=1)
    strategy = disturbed(tiny(side=4, blocks=1, channels=2, inner_steps=2))
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)
    assert all(gradient.abs().max() > 1e-5 for gradient in expected.values())


def test_the_curvature_of_a_frozen_layer_is_not_learned():
    encoder = MLP((4,), (5, 6))
    encoder.layers[0].requires_grad_(False)
    names = set(MetaCurvature(encoder).curvature)
    assert not [name for name in names if "layers_0" in name]
    assert "encoder_layers_1_weight_in" in names


def test_all_tasks_at_once_give_what_one_after_another_does(make_episode, monkeypatch):
    episode = make_episode((2, 8, 8), tasks=3, shots=[3, 1, 2])
    strategy = disturbed(tiny(inner_steps=2))
    expected = gradients_of(strategy, episode)
    as_on_a_gpu(monkeypatch)
    torch.testing.assert_close(gradients_of(strategy, episode), expected, **SAME)


def test_it_learns_sine_waves():
    torch.manual_seed(0)
    encoder = MLP((1,), (20, 20))
    strategy = MetaCurvature(encoder, ways=1, inner_learning_rate=0.01)
    before, after = errors_of_sine_waves(strategy)
    assert after < 0.8 * before
