"""VERSA against its equations, and its samples against integrals."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import VERSA

from ...builders import Raw

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def plain(variance=None, **arguments):
    """In evaluation mode; with ``variance`` that of every weight is this number."""
    torch.manual_seed(0)
    strategy = VERSA(Raw(), **{"width": 6, **arguments}).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if variance is not None:
            strategy.log_variance.weight.zero_()
            strategy.log_variance.bias.fill_(math.log(variance))
    return strategy.eval()


def gaussian_by_hand(strategy, features):
    """μ and σ of one class's weights and bias, ``[D + 1]`` each, from its features ``[n, D]``."""
    ((first, _, second), _) = strategy.hidden
    h = F.elu(first.weight @ features.mean(0) + first.bias)
    h = F.elu(second.weight @ h + second.bias)
    layer = strategy.log_variance
    return strategy.mean.weight @ h, ((layer.weight @ h + layer.bias) / 2).exp()


def log_likelihoods_by_hand(strategy, episode, task, noise):
    """log 1/L Σ_l softmax(..)_k for each query and class of a task; noise ``[L][class][D + 1]``."""
    x, y = episode.support.inputs[task], episode.support.targets[task]
    gaussians = [gaussian_by_hand(strategy, x[y == k]) for k in range(episode.ways)]
    rows = []
    for query in episode.query.inputs[task]:
        average = 0
        for each in noise:
            scores = []
            for (mean, deviation), draw in zip(gaussians, each, strict=True):
                psi = mean + deviation * draw
                scores.append((psi[:-1] @ query + psi[-1]).exp())
            average = average + torch.stack(scores) / sum(scores) / len(noise)
        rows.append(average.log())
    return torch.stack(rows)


def test_the_loss_of_training_is_the_logarithm_of_the_mean_over_samples(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(samples=5).train()
    torch.manual_seed(7)
    loss = strategy.loss(episode)[0]
    torch.manual_seed(7)
    noise = torch.randn(2, 5, 3, 5, dtype=torch.float64)
    expected = 0
    for task in range(2):
        found = log_likelihoods_by_hand(strategy, episode, task, noise[task])
        for each, target in zip(found, episode.query.targets[task], strict=True):
            expected = expected - each[target] / 12
    torch.testing.assert_close(loss, expected, **SAME)
    for got, wanted in zip(
        torch.autograd.grad(loss, list(strategy.parameters())),
        torch.autograd.grad(expected, list(strategy.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, **SAME)


def test_in_use_the_noise_is_of_its_seed_and_each_class_has_its_own(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(samples=2, test_samples=6, seed=3)
    noise = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(3)).double()
    projection = torch.arange(1, 5, dtype=torch.float64).cos()
    logits = strategy(episode)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        places = [float(x[y == k].mean(0) @ projection) for k in range(3)]
        own = noise[:, [sorted(places).index(place) for place in places]]
        expected = log_likelihoods_by_hand(strategy, episode, task, own)
        torch.testing.assert_close(logits[task], expected, **SAME)


def test_many_samples_come_to_the_integral(make_episode):
    """Of two classes: the mean of sigmoid(d) over d ~ N(m, v), by the trapezium rule.

    v is the sum over both classes, for their weights are independent.
    """
    episode = make_episode((4,), ways=2)
    strategy = plain(variance=0.5, test_samples=20_000)
    got = strategy(episode).exp()
    x, y = episode.support.inputs[0], episode.support.targets[0]
    means = [gaussian_by_hand(strategy, x[y == k])[0] for k in range(2)]
    for i, query in enumerate(episode.query.inputs[0]):
        with_constant = torch.cat([query, torch.ones(1).double()])
        centre = (means[0] - means[1]) @ with_constant
        deviation = (2 * 0.5 * with_constant.square().sum()).sqrt()
        t = torch.linspace(-9, 9, 2001, dtype=torch.float64)
        density = (-t.square() / 2).exp() / math.sqrt(2 * math.pi)
        expected = torch.trapezoid((centre + deviation * t).sigmoid() * density, t)
        # A mean of 20,000 probabilities errs by 0.5 / √20,000 = 0.0035 at most; three times that.
        assert abs(got[0, i, 0] - expected) < 0.0106


def test_without_variance_it_is_a_linear_classifier(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(variance=1e-30)
    logits = strategy(episode)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        psi = torch.stack([gaussian_by_hand(strategy, x[y == k])[0] for k in range(3)])
        expected = (episode.query.inputs[task] @ psi[:, :-1].mT + psi[:, -1]).log_softmax(-1)
        torch.testing.assert_close(logits[task], expected, **SAME)
    mean_only = plain(variance=1e-30, test_samples=0)
    torch.testing.assert_close(mean_only(episode), logits, **SAME)


def test_mean_weights_alone_learn_no_variance(make_episode):
    episode = make_episode((4,))
    strategy = plain(samples=0).train()
    assert strategy.log_variance is None
    assert torch.equal(strategy(episode), strategy(episode))
    assert strategy.adapt(episode.support, 3)["weight"].shape == (2, 1, 3, 4)


@pytest.mark.parametrize(("test_samples", "count"), [(None, 4), (9, 9), (0, 1)])
def test_theta_is_samples_of_weights(make_episode, test_samples, count):
    support = make_episode((4,)).support
    strategy = plain(samples=4, test_samples=test_samples)
    shapes = {name: tuple(each.shape) for name, each in strategy.adapt(support, 3).items()}
    assert shapes == {"weight": (2, count, 3, 4), "bias": (2, count, 3)}
    strategy.train()
    assert strategy.adapt(support, 3)["weight"].shape == (2, 4, 3, 4)


def test_use_leaves_the_random_numbers_of_others_alone(make_episode):
    episode = make_episode((4,))
    strategy = plain()
    before = torch.get_rng_state()
    first = strategy(episode)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(11)
    assert torch.equal(strategy(episode), first)
    other = plain(seed=1)
    assert not torch.allclose(other(episode), first, rtol=1e-3)
    strategy.train()
    assert not torch.equal(strategy(episode), strategy(episode))


def test_half_precision_is_averaged_in_float32(make_episode):
    episode = make_episode((4,))
    expected = plain()(episode).float()
    support, query = (
        Examples(e.inputs.bfloat16(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        strategy = plain().float()
        logits = strategy(Episode(support, query, 3))
        assert strategy.train().loss(Episode(support, query, 3))[0].dtype == torch.float32
    assert logits.dtype == torch.float32
    # bfloat16 has three digits, and logits are sums of four products.
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        probabilities = plain()(make_episode((4,), ways=ways)).exp()
        assert probabilities.shape == (2, 2 * ways, ways)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 2 * ways).double(), **SAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": -1}, "samples are -1 and its test_samples None; neither may be negative"),
        ({"test_samples": -2}, "samples are 10 and its test_samples -2"),
        ({"samples": 0, "test_samples": 5}, "cannot draw 5 test_samples .* learned no variance"),
        ({"width": 0}, "width is 0; it must be more than 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VERSA(Raw(), **arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        VERSA(nn.Flatten())
