"""The conditional neural process against its equations, written out in loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import quickstudy
from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples, Sinusoids
from quickstudy.strategies import ConditionalNeuralProcess
from quickstudy.strategies.bases.neural_process import log_likelihood

from ...builders import Raw
from ..meta_gradients import finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def tiny(target_size=None, **arguments):
    torch.manual_seed(0)
    arguments = {"width": 6, **arguments}
    strategy = ConditionalNeuralProcess(Raw(), target_size, **arguments).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return strategy.eval()


def numbers(target_size=2, tasks=2, points=5, queries=3, seed=0):
    """Random numbers for four random numbers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, points + queries, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(tasks, points + queries, target_size, generator=generator, dtype=torch.float64)
    parts = [Examples(x[:, at], y[:, at]) for at in (slice(points), slice(points, None))]
    return Episode(*parts, target_size)


def layered(network, x):
    """Fully connected layers with ReLU between each two, one after another."""
    layers = [each for each in network if isinstance(each, nn.Linear)]
    for number, layer in enumerate(layers):
        x = layer.weight @ x + layer.bias
        if number < len(layers) - 1:
            x = x.clamp(min=0)
    return x


def decoded(strategy, x, r):
    """g(x, r): first layer, the layers between, the last."""
    joined = torch.cat([strategy.of_query.weight, strategy.of_set.weight], dim=1)
    hidden = (joined @ torch.cat([x, r]) + strategy.of_query.bias).clamp(min=0)
    hidden = layered(strategy.decoder, hidden).clamp(min=0)
    output = strategy.output.weight @ hidden
    return output if strategy.output.bias is None else output + strategy.output.bias


layers = pytest.mark.parametrize("depth", [{}, {"layers": 1, "decoder_layers": 2}], ids=str)


@layers
def test_means_and_deviations_follow_the_equations(depth):
    episode = numbers()
    strategy = tiny(2, **depth)
    theta = strategy.adapt(episode.support, 2)
    mean, deviation = strategy.predict_distribution(theta, episode.query.inputs)
    assert torch.equal(strategy.predict(theta, episode.query.inputs), mean)
    torch.testing.assert_close(strategy(episode), mean)
    for task in range(2):
        pairs = zip(episode.support.inputs[task], episode.support.targets[task], strict=True)
        codes = [layered(strategy.codes, torch.cat([x, y])) for x, y in pairs]
        r = sum(codes) / len(codes)
        for i, x in enumerate(episode.query.inputs[task]):
            output = decoded(strategy, x, r)
            torch.testing.assert_close(mean[task, i], output[:2], **SAME)
            expected = 0.1 + 0.9 * (1 + output[2:].exp()).log()
            torch.testing.assert_close(deviation[task, i], expected, **SAME)


@layers
def test_logits_follow_the_equations_for_unequal_shots(make_episode, depth):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = tiny(**depth)
    logits = strategy(episode)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        r = []
        for k in range(3):
            codes = [layered(strategy.codes, each) for each in x[y == k]]
            r.append(sum(codes) / len(codes))
        average = sum(r) / 3
        for i, query in enumerate(episode.query.inputs[task]):
            for k in range(3):
                (expected,) = decoded(strategy, query, torch.cat([r[k], average]))
                torch.testing.assert_close(logits[task, i, k], expected, **SAME)


def test_the_number_of_layers_is_as_asked_for():
    for depth in (2, 3, 5):
        strategy = tiny(1, layers=depth, decoder_layers=depth)
        assert sum(isinstance(each, nn.Linear) for each in strategy.codes) == depth
        between = sum(isinstance(each, nn.Linear) for each in strategy.decoder)
        assert 1 + between + 1 == depth  # and of_query with of_set, and output


# --- likelihoods ---


def test_the_likelihood_of_a_normal_distribution_by_hand():
    """One number at half a deviation: −1/8 − ln 2 − ½ ln 2π; two numbers add."""
    one = log_likelihood(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([2.0]))
    assert one.item() == pytest.approx(-0.125 - 0.6931472 - 0.9189385)
    two = log_likelihood(
        torch.tensor([1.0, 3.0]), torch.tensor([0.0, 3.0]), torch.tensor([2.0, 0.5])
    )
    assert two.item() == pytest.approx(one.item() + 0.6931472 - 0.9189385)


def test_the_loss_of_regression_is_the_surprise_at_support_and_query():
    episode = numbers()
    strategy = tiny(2)
    theta = strategy.adapt(episode.support, 2)
    total, count = 0.0, 0
    for part in (episode.support, episode.query):
        mean, deviation = strategy.predict_distribution(theta, part.inputs)
        for y, m, s in zip(
            part.targets.flatten(0, 1), mean.flatten(0, 1), deviation.flatten(0, 1), strict=True
        ):
            for d in range(2):
                total += (y[d] - m[d]) ** 2 / (2 * s[d] ** 2) + s[d].log()
                total += 0.5 * math.log(2 * math.pi)
            count += 1
    assert count == 2 * (5 + 3)
    torch.testing.assert_close(strategy.loss(episode)[0], total / count, **SAME)


def test_the_loss_of_classification_is_the_cross_entropy_of_the_query(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    expected = F.cross_entropy(tiny()(episode).mT, episode.query.targets)
    torch.testing.assert_close(tiny().loss(episode)[0], expected, **SAME)


@pytest.mark.parametrize("least", [0.1, 0.5])
def test_no_deviation_is_less_than_the_least(least):
    strategy = tiny(2, least_deviation=least)
    with torch.no_grad():
        strategy.output.bias[2:] = -1000.0
    episode = numbers()
    _, deviation = strategy.predict_distribution(
        strategy.adapt(episode.support, 2), episode.query.inputs
    )
    torch.testing.assert_close(deviation, torch.full_like(deviation, least), **SAME)


@pytest.mark.parametrize("target_size", [None, 2])
def test_the_gradient_agrees_with_finite_differences(make_episode, target_size):
    episode = numbers() if target_size else make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(target_size, width=3, layers=2, decoder_layers=3)
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


# --- regression: what the tests of all strategies say of classification ---


def test_the_order_of_the_points_does_not_matter():
    episode = numbers()
    strategy = tiny(2)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Examples(episode.support.inputs[:, order], episode.support.targets[:, order])
    expected = strategy.predict(strategy.adapt(episode.support, 2), episode.query.inputs)
    got = strategy.predict(strategy.adapt(shuffled, 2), episode.query.inputs)
    torch.testing.assert_close(got, expected, **SAME)


def test_a_task_and_a_query_are_answered_the_same_alone():
    episode = numbers()
    strategy = tiny(2)
    together = strategy(episode)
    for task in range(2):
        one = episode[task : task + 1]
        theta = strategy.adapt(one.support, 2)
        alone = strategy.predict(theta, one.query.inputs[:, :1])
        torch.testing.assert_close(alone[0, 0], together[task, 0], **SAME)


def test_any_number_of_points_is_read():
    strategy = tiny(1)
    for points in (1, 2, 30):
        assert strategy(numbers(1, points=points)).shape == (2, 3, 1)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_outer_gradients_are_needed(mode):
    episode = numbers()
    expected = tiny(2)(episode)
    with mode():
        torch.testing.assert_close(tiny(2)(episode), expected.detach())


# --- use ---


def test_it_learns_sine_waves_and_how_far_off_it_is():
    torch.manual_seed(0)
    strategy = ConditionalNeuralProcess(
        MLP((1,), (32,)), target_size=1, width=64, layers=2, decoder_layers=3
    )
    unseen, waves = (Sinusoids(tasks=tasks, seed=tasks) for tasks in (100, 16))
    new = unseen.episode(0)
    optimizer = torch.optim.Adam(strategy.parameters(), 0.005)
    before = strategy.loss(new)[0].item()
    for step in range(150):
        optimizer.zero_grad()
        strategy.loss(waves.episode(step))[0].backward()
        optimizer.step()
    with torch.no_grad():
        assert strategy.loss(new)[0] < 0.4 * before
        theta = strategy.adapt(new.support, 1)
        mean, deviation = strategy.predict_distribution(theta, new.query.inputs)
        of_others = {name: value.roll(1, 0) for name, value in theta.items()}
        misled = strategy.predict(of_others, new.query.inputs) - new.query.targets
    off = (mean - new.query.targets).abs()
    assert off.square().mean() < 0.9 * misled.square().mean()  # it does read the points
    # Where it says that it is less sure it is farther off, and two deviations hold most.
    sure = deviation < deviation.median()
    assert off[sure].mean() < 0.6 * off[~sure].mean()
    assert 0.85 < (off < 2 * deviation).float().mean() < 1


def test_the_trainer_trains_many_waves_in_one_call():
    torch.manual_seed(0)
    strategy = ConditionalNeuralProcess(MLP((1,), (8,)), target_size=1, width=8)
    calls = []
    strategy.encoder.register_forward_hook(lambda _, __, output: calls.append(len(output)))
    tasks = Sinusoids(shots=4, queries=6, tasks=5)
    run = quickstudy.fit(strategy, tasks, tasks=5, steps=4, log_every=2, show_progress=False)
    assert calls[-1] == 5 * (4 + 6)
    assert run.history[-1]["accuracy"] is None  # there is none in regression


def test_half_precision_has_likelihoods_in_float32():
    episode = numbers()
    expected = tiny(2).loss(episode)[0].item()
    support, query = (
        Examples(part.inputs.float(), part.targets.float())
        for part in (episode.support, episode.query)
    )
    strategy = tiny(2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = strategy.loss(Episode(support, query, 2))[0]
        theta = strategy.adapt(support, 2)
        mean, deviation = strategy.predict_distribution(theta, query.inputs)
    assert loss.dtype == mean.dtype == deviation.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=0.05)  # codes of 8 bits


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        assert tiny()(make_episode((4,), ways=ways)).shape == (2, 2 * ways, ways)


# --- what cannot be ---


def test_tasks_of_the_other_kind_are_refused(make_episode):
    with pytest.raises(
        ValueError, match=r"are numbers, .* for classes: make one with target_size=2"
    ):
        tiny().adapt(numbers().support, 2)
    with pytest.raises(ValueError, match=r"are classes, .* targets of 2 numbers: make one without"):
        tiny(2).adapt(make_episode((4,)).support, 3)
    with pytest.raises(ValueError, match="made for tasks of 2 ways"):
        tiny(2).adapt(numbers(1).support, 1)


def test_classes_have_no_mean_and_deviation(make_episode):
    episode = make_episode((4,))
    theta = tiny().adapt(episode.support, 3)
    with pytest.raises(ValueError, match="softmax of what `predict` gives"):
        tiny().predict_distribution(theta, episode.query.inputs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_size": 0}, "target_size is 0; it must be more than 0"),
        ({"width": 0}, "width is 0; it must be more than 0"),
        ({"layers": 0}, "layers is 0; it must be more than 0"),
        ({"decoder_layers": 1}, "decoder_layers is 1"),
        ({"least_deviation": 0.0}, "least_deviation 0.0"),
        ({"least_deviation": 1.0}, "least_deviation 1.0"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        ConditionalNeuralProcess(nn.Flatten())
