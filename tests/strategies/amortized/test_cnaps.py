"""CNAPS against its equations, its modulation applied by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.encoders import MLP, Conv4, ResNet12
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import CNAPS

from ..meta_gradients import finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def tiny(encoder=None, noise=0.3, **arguments):
    torch.manual_seed(0)
    strategy = CNAPS(encoder or MLP((4,), (5, 6)), **{"width": 7, **arguments}).double()
    with torch.no_grad():
        for name, parameter in strategy.named_parameters():
            if "norms" not in name:
                parameter.add_(noise * torch.randn_like(parameter))
    return strategy.eval()


def layered(network, x):
    """Fully connected layers with ELU between each two, one after another."""
    layers = [each for each in network if isinstance(each, nn.Linear)]
    for number, layer in enumerate(layers):
        x = layer.weight @ x + (0 if layer.bias is None else layer.bias)
        if number < len(layers) - 1:
            x = torch.where(x > 0, x, x.exp() - 1)
    return x


def modulated(encoder, x, scales_and_shifts):
    """One input through the layers of an MLP, each followed by its scale and shift, and ReLU."""
    for layer, (scale, shift) in zip(encoder.layers, scales_and_shifts, strict=True):
        x = (layer.weight @ x + layer.bias) * (1 + scale) + shift
        x = x.clamp(min=0)
    return x


def by_hand(strategy, support, queries, ways):
    """Logits ``[Q, ways]`` of one task."""
    x, y = support
    nothing = [(0, 0)] * 2
    task = sum(modulated(strategy.set_encoder, each, nothing) for each in x) / len(x)
    emitted = [layered(network, task) for network in strategy.modulations]
    changes = [(both[: len(both) // 2], both[len(both) // 2 :]) for both in emitted]
    rows, biases = [], []
    for k in range(ways):
        own = [modulated(strategy.encoder, each, changes) for each in x[y == k]]
        z = sum(own) / len(own)
        rows.append(z + layered(strategy.rows, z))
        biases.append(layered(strategy.biases, z)[0])
    features = [modulated(strategy.encoder, each, changes) for each in queries]
    logits = [[row @ f + b for row, b in zip(rows, biases, strict=True)] for f in features]
    return torch.stack([torch.stack(each) for each in logits]) / 6**0.5


def test_logits_follow_the_equations_for_unequal_shots(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = tiny()
    logits = strategy(episode)
    for task in range(2):
        support = episode.support.inputs[task], episode.support.targets[task]
        expected = by_hand(strategy, support, episode.query.inputs[task], 3)
        torch.testing.assert_close(logits[task], expected, **SAME)


@pytest.mark.parametrize(
    "make",
    [lambda: Conv4((1, 8, 8), 3, blocks=2), lambda: ResNet12((1, 8, 8), (2, 3), drop_rate=0.0)],
    ids=["Conv4", "ResNet12"],
)
def test_each_image_is_modulated_by_the_scale_and_shift_of_its_task(make_episode, make):
    episode = make_episode((1, 8, 8))
    strategy = tiny(make())
    theta = strategy.adapt(episode.support, 3)
    got = strategy.encode(episode.query.inputs, theta)
    for task, example in ((0, 0), (0, 5), (1, 2)):
        own = [
            (
                theta[f"modulation.{layer}.scale"][task, None],
                theta[f"modulation.{layer}.shift"][task, None],
            )
            for layer in range(2)
        ]
        alone = strategy.encoder(episode.query.inputs[task, example, None], own)[0]
        torch.testing.assert_close(got[task, example], alone, **SAME)
    other = {name: value.flip(0) for name, value in theta.items()}
    assert not torch.allclose(got, strategy.encode(episode.query.inputs, other), rtol=1e-3)


def test_at_the_start_the_encoder_is_as_it_was(make_episode):
    episode = make_episode((4,))
    strategy = tiny(noise=0.0)
    theta = strategy.adapt(episode.support, 3)
    changes = {name: value for name, value in theta.items() if "modulation" in name}
    assert {name: value.shape for name, value in changes.items()} == {
        f"modulation.{layer}.{part}": (2, wide)
        for layer, wide in ((0, 5), (1, 6))
        for part in ("scale", "shift")
    }
    assert not any(value.any() for value in changes.values())
    features = strategy.encode(episode.query.inputs, theta)
    expected = strategy.encoder(episode.query.inputs.flatten(0, 1)).view(2, 6, 6)
    torch.testing.assert_close(features, expected, **SAME)


def test_labels_do_not_change_how_the_encoder_is_adapted(make_episode):
    """The paper's set encoder reads inputs alone."""
    support = make_episode((4,)).support
    strategy = tiny()
    shuffled = Examples(support.inputs, support.targets.flip(1))
    torch.testing.assert_close(strategy.condition(shuffled, 3), strategy.condition(support, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP((1, 4, 4), (3, 2)),
        lambda: Conv4((1, 4, 4), 2, blocks=1),
        lambda: ResNet12((1, 4, 4), (2,), drop_rate=0.0),
    ],
    ids=["MLP", "Conv4", "ResNet12"],
)
def test_the_gradient_agrees_with_finite_differences(make_episode, make):
    episode = make_episode((1, 4, 4), shots=[3, 1, 2], tasks=1)
    strategy = tiny(make(), width=3)
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        assert tiny()(make_episode((4,), ways=ways)).shape == (2, 2 * ways, ways)


# --- a frozen encoder ---


def test_a_frozen_encoder_stays_as_it_is_while_all_else_learns(make_episode):
    episode = make_episode((1, 8, 8))
    strategy = tiny(Conv4((1, 8, 8), 3, blocks=2), frozen=True).train()
    before = copy.deepcopy(strategy.state_dict())
    learned = [each for each in strategy.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(learned, 0.1)
    strategy.loss(episode)[0].backward()
    optimizer.step()
    after = strategy.state_dict()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("encoder."), name


def test_a_frozen_encoder_uses_its_running_averages_in_training_too(make_episode):
    inputs = make_episode((1, 8, 8)).query.inputs
    strategy = tiny(Conv4((1, 8, 8), 3, blocks=2), frozen=True)
    theta = strategy.condition(make_episode((1, 8, 8)).support, 3)
    expected = strategy.encode(inputs, theta)
    strategy.train()
    assert strategy.set_encoder.training
    torch.testing.assert_close(strategy.encode(inputs, theta), expected, **SAME)
    learning = tiny(Conv4((1, 8, 8), 3, blocks=2)).train()
    assert not torch.allclose(learning.encode(inputs, theta), expected, rtol=1e-3)


def test_the_set_encoder_learns_though_the_encoder_came_frozen():
    encoder = MLP((4,), (5, 6)).requires_grad_(False)
    strategy = CNAPS(encoder, frozen=True)
    assert all(parameter.requires_grad for parameter in strategy.set_encoder.parameters())
    assert not any(parameter.requires_grad for parameter in strategy.encoder.parameters())


# --- use ---


def rotated_tasks(tasks=16):
    """Two classes whose features a task turns by an angle of its own, so that it must adapt."""
    angles = 2 * torch.pi * torch.rand(tasks, 1)
    targets = torch.arange(2).repeat(8).expand(tasks, -1)
    angles = angles + torch.pi * targets
    centres = torch.stack([angles.cos(), angles.sin()], -1)
    x = torch.cat([centres + 0.3 * torch.randn_like(centres), torch.randn(tasks, 16, 2)], -1)
    part = [Examples(x[:, each], targets[:, each]) for each in (slice(4), slice(4, None))]
    return Episode(*part, 2)


@pytest.mark.parametrize("frozen", [False, True])
def test_training_lowers_the_loss_on_tasks_never_seen(frozen):
    torch.manual_seed(0)
    strategy = CNAPS(MLP((4,), (16, 16)), frozen=frozen, width=16)
    learned = [each for each in strategy.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learned, 0.005)
    unseen = rotated_tasks(100)
    before = strategy.loss(unseen)[0].item()
    for _ in range(60):
        optimizer.zero_grad()
        strategy.loss(rotated_tasks())[0].backward()
        optimizer.step()
    assert strategy.loss(unseen)[0].item() < 0.7 * before


def test_half_precision_says_nearly_the_same_in_float32(make_episode):
    episode = make_episode((4,))
    expected = tiny()(episode).float()
    support, query = (
        Examples(e.inputs.float(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = tiny().float()(Episode(support, query, 3))
    assert logits.dtype == torch.float32
    # Numbers of 8 bits, a dozen layers deep.
    assert F.mse_loss(logits, expected) < 0.01 * expected.var()


# --- what cannot be ---


def test_an_encoder_that_cannot_be_modulated_is_refused():
    encoder = nn.Flatten()
    encoder.out_features = 4
    with pytest.raises(
        ValueError, match=r"Flatten cannot be modulated.*Use Conv4, ResNet12 or MLP\.$"
    ):
        CNAPS(encoder)


def test_no_width_is_refused():
    with pytest.raises(ValueError, match="CNAPS's width is 0; it must be more than 0"):
        tiny(width=0)
