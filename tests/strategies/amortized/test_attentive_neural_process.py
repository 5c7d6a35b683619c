"""The attentive neural process against its equations: loops, and torch's distributions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from quickstudy.encoders import MLP
from quickstudy.episodes import Episode, Examples, Sinusoids
from quickstudy.strategies import AttentiveNeuralProcess
from quickstudy.strategies.amortized.attentive_neural_process import divergence, set_attention

from ...builders import Raw
from ..meta_gradients import finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-9, "atol": 1e-10}


def tiny(target_size=None, **arguments):
    torch.manual_seed(0)
    arguments = {"width": 6, "heads": 2, **arguments}
    strategy = AttentiveNeuralProcess(Raw(), target_size, **arguments).double()
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


def attended(query, keys, values, heads):
    """What one query gets from one set, one head and one example at a time."""
    each = len(query) // heads
    found = []
    for head in range(heads):
        part = slice(head * each, (head + 1) * each)
        scores = torch.stack([query[part] @ key[part] for key in keys]) / each**0.5
        shares = scores.exp() / scores.exp().sum()
        found.append(sum(a * value[part] for a, value in zip(shares, values, strict=True)))
    return torch.cat(found)


# --- attention ---


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_that_of_a_plain_loop(heads):
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(2, n, 6, generator=generator, dtype=torch.float64) for n in (4, 7, 7)
    )
    of_set = torch.tensor([[0, 1, 1, 2, 0, 0, 1], [2, 2, 2, 1, 0, 2, 2]])
    members = F.one_hot(of_set, 3).bool().mT
    got = set_attention(queries, keys, values, members, heads)
    assert got.shape == (2, 4, 3, 6)
    for task in range(2):
        for q in range(4):
            for k in range(3):
                own = of_set[task] == k
                expected = attended(queries[task, q], keys[task, own], values[task, own], heads)
                torch.testing.assert_close(got[task, q, k], expected, **SAME)


def test_a_set_without_examples_gives_zeros():
    queries, keys = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    members = torch.tensor([[[True, True, True], [False, False, False]]])
    got = set_attention(queries, keys, keys, members, heads=2)
    assert got[:, :, 0].isfinite().all()
    assert not got[:, :, 1].any()


def test_the_gradient_of_attention_agrees_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(1, n, 4, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (2, 4, 4)
    ]
    members = F.one_hot(torch.tensor([[0, 1, 1, 0]]), 2).bool().mT
    assert torch.autograd.gradcheck(lambda *each: set_attention(*each, members, 2), tensors)


# --- representations and predictions ---


def layered(network, x):
    """Fully connected layers with ReLU between each two, one after another."""
    linear = [each for each in network if isinstance(each, nn.Linear)]
    for number, layer in enumerate(linear):
        x = layer.weight @ x + layer.bias
        if number < len(linear) - 1:
            x = x.clamp(min=0)
    return x


def latent(strategy, pairs):
    """Mean and deviation of q(z | pairs)."""
    codes = [layered(strategy.latent_codes, pair) for pair in pairs]
    mean, raw = layered(strategy.latent_moments, sum(codes) / len(codes)).chunk(2)
    return mean, 0.1 + 0.9 / (1 + (-raw).exp())


def summary(strategy, query, inputs, pairs, z):
    """What is read beside a query: r(x) of one set, and its z."""
    keys = [strategy.keys.weight @ x for x in inputs]
    values = [strategy.values.weight @ layered(strategy.codes, pair) for pair in pairs]
    asked = strategy.queries.weight @ query
    r = strategy.merge.weight @ attended(asked, keys, values, strategy.heads)
    return r if z is None else torch.cat([r, z])


def decoded(strategy, x, r):
    """g(x, r): first layer, the layers between, the last."""
    joined = torch.cat([strategy.of_query.weight, strategy.of_set.weight], dim=1)
    hidden = (joined @ torch.cat([x, r]) + strategy.of_query.bias).clamp(min=0)
    hidden = layered(strategy.decoder, hidden).clamp(min=0)
    output = strategy.output.weight @ hidden
    return output if strategy.output.bias is None else output + strategy.output.bias


with_and_without = pytest.mark.parametrize(
    "has_latent", [False, True], ids=["deterministic", "latent"]
)


@with_and_without
def test_means_and_deviations_follow_the_equations(has_latent):
    episode = numbers()
    strategy = tiny(2, latent=has_latent)
    theta = strategy.adapt(episode.support, 2)
    mean, deviation = strategy.predict_distribution(theta, episode.query.inputs)
    assert torch.equal(strategy.predict(theta, episode.query.inputs), mean)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        pairs = torch.cat([x, y], dim=1)
        z = latent(strategy, pairs)[0] if has_latent else None
        for i, query in enumerate(episode.query.inputs[task]):
            output = decoded(strategy, query, summary(strategy, query, x, pairs, z))
            torch.testing.assert_close(mean[task, i], output[:2], **SAME)
            expected = 0.1 + 0.9 * (1 + output[2:].exp()).log()
            torch.testing.assert_close(deviation[task, i], expected, **SAME)


@with_and_without
def test_logits_follow_the_equations_for_unequal_shots(make_episode, has_latent):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = tiny(latent=has_latent)
    logits = strategy(episode)
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        for i, query in enumerate(episode.query.inputs[task]):
            each = []
            for k in range(3):
                own = x[y == k]
                z = latent(strategy, own)[0] if has_latent else None
                each.append(summary(strategy, query, own, own, z))
            average = sum(each) / 3
            for k in range(3):
                (expected,) = decoded(strategy, query, torch.cat([each[k], average]))
                torch.testing.assert_close(logits[task, i, k], expected, **SAME)


def test_a_query_among_the_points_attends_to_its_own():
    """With long keys attention is all on the nearest: r(x_i) is then made of r_i alone."""
    episode = numbers()
    strategy = tiny(2, latent=False, heads=1)
    with torch.no_grad():
        matrix = 30 * torch.eye(6, 4, dtype=torch.float64)
        strategy.queries.weight.copy_(matrix)
        strategy.keys.weight.copy_(matrix)
    inputs = F.normalize(episode.support.inputs, dim=-1)
    support = Examples(inputs, episode.support.targets)
    theta = strategy.adapt(support, 2)
    got = strategy.representation(theta, inputs)[:, :, 0]
    torch.testing.assert_close(got, strategy.merge(theta["values"]), rtol=1e-4, atol=1e-4)


# --- the latent ---


def test_the_divergence_is_that_of_two_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 2, 3, 5, generator=generator, dtype=torch.float64)
    deviations = 0.1 + torch.rand(2, 2, 3, 5, generator=generator, dtype=torch.float64)
    posterior, prior = (
        {"latent": m, "latent_deviation": d} for m, d in zip(means, deviations, strict=True)
    )
    expected = kl_divergence(Normal(means[0], deviations[0]), Normal(means[1], deviations[1]))
    torch.testing.assert_close(divergence(posterior, prior), expected.sum((1, 2)), **SAME)
    assert not divergence(prior, prior).any()


def test_the_loss_of_regression_is_the_negative_evidence_lower_bound():
    episode = numbers()
    strategy = tiny(2)
    torch.manual_seed(3)
    loss = strategy.loss(episode)[0]
    torch.manual_seed(3)
    noise = torch.randn(2, 1, 6, dtype=torch.float64)
    prior_theta = strategy.adapt(episode.support, 2)
    total = 0.0
    for task in range(2):
        x, y = (
            torch.cat([getattr(part, kind)[task] for part in (episode.support, episode.query)])
            for kind in ("inputs", "targets")
        )
        pairs = torch.cat([x, y], dim=1)
        prior, posterior = (Normal(*latent(strategy, each)) for each in (pairs[:5], pairs))
        z = posterior.mean + posterior.stddev * noise[task, 0]
        own = {name: value[task : task + 1] for name, value in prior_theta.items()}
        mean, deviation = strategy.predict_distribution(own | {"latent": z[None, None]}, x[None])
        likelihood = Normal(mean[0], deviation[0]).log_prob(y).sum()
        total += (likelihood - kl_divergence(posterior, prior).sum()) / 8
    torch.testing.assert_close(loss, -total / 2, **SAME)


def test_the_loss_of_classification_is_the_negative_evidence_lower_bound(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = tiny()
    torch.manual_seed(3)
    loss = strategy.loss(episode)[0]
    torch.manual_seed(3)
    noise = torch.randn(2, 3, 6, dtype=torch.float64)
    theta = strategy.adapt(episode.support, 3)
    draws, total = torch.empty_like(noise), 0.0
    for task in range(2):
        for k in range(3):
            x, query = (
                part.inputs[task][part.targets[task] == k]
                for part in (episode.support, episode.query)
            )
            prior, posterior = (
                Normal(*latent(strategy, each)) for each in (x, torch.cat([x, query]))
            )
            draws[task, k] = posterior.mean + posterior.stddev * noise[task, k]
            total += kl_divergence(posterior, prior).sum() / 6 / 2
    logits = strategy.predict(theta | {"latent": draws}, episode.query.inputs)
    expected = F.cross_entropy(logits.mT, episode.query.targets) + total
    torch.testing.assert_close(loss, expected, **SAME)


def test_drawn_functions_scatter_as_the_latent_does():
    episode = numbers(points=1)
    strategy = tiny(2)
    theta = {n: v.detach() for n, v in strategy.adapt(episode.support, 2).items()}
    torch.manual_seed(0)
    draws = torch.stack([strategy.drawn(theta)["latent"] for _ in range(2000)])
    # Standard errors of 2000 draws: 1 / √2000 deviations of the mean, 1 / √4000 of themselves.
    deviation = theta["latent_deviation"]
    assert ((draws.mean(0) - theta["latent"]).abs() < 5 / 2000**0.5 * deviation).all()
    assert ((draws.std(0) / deviation - 1).abs() < 5 / 4000**0.5).all()
    one, other = (strategy.predict(strategy.drawn(theta), episode.query.inputs) for _ in range(2))
    assert not torch.allclose(one, other, rtol=1e-3)


def test_training_draws_and_use_does_not(make_episode):
    episode = make_episode((4,))
    strategy = tiny()
    torch.manual_seed(1)
    first, second = strategy.loss(episode)[0], strategy.loss(episode)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(strategy.loss(episode)[0], first)
    assert torch.equal(strategy(episode), strategy(episode))
    plain = tiny(latent=False)
    assert torch.equal(plain.loss(episode)[0], plain.loss(episode)[0])


def test_the_accuracy_of_training_does_not_see_the_targets_of_the_query(make_episode):
    """Training reads the accuracy from what the forward pass returned."""
    episode = make_episode((4,))
    strategy = tiny()
    expected = strategy(episode)
    seen = []
    strategy.register_forward_hook(lambda _, __, output: seen.append(output))
    strategy.loss(episode)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], expected, **SAME)


@with_and_without
@pytest.mark.parametrize("target_size", [None, 2])
def test_the_gradient_agrees_with_finite_differences(make_episode, target_size, has_latent):
    episode = numbers() if target_size else make_episode((4,), shots=[3, 1, 2])
    strategy = tiny(target_size, latent=has_latent, width=4, layers=1, decoder_layers=2)
    loss = strategy.loss

    def same_draw(episode):
        torch.manual_seed(7)
        return loss(episode)

    strategy.loss = same_draw
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


# --- regression: what the tests of all strategies say of classification ---


@with_and_without
def test_neither_order_nor_other_tasks_and_queries_matter(has_latent):
    episode = numbers()
    strategy = tiny(2, latent=has_latent)
    expected = strategy(episode)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = Examples(episode.support.inputs[:, order], episode.support.targets[:, order])
    got = strategy.predict(strategy.adapt(shuffled, 2), episode.query.inputs)
    torch.testing.assert_close(got, expected, **SAME)
    for task in range(2):
        one = episode[task : task + 1]
        alone = strategy.predict(strategy.adapt(one.support, 2), one.query.inputs[:, :1])
        torch.testing.assert_close(alone[0, 0], expected[task, 0], **SAME)


@with_and_without
def test_it_learns_sine_waves(has_latent):
    torch.manual_seed(0)
    strategy = AttentiveNeuralProcess(
        MLP((1,), (32,)), 1, latent=has_latent, width=32, heads=4, layers=1, decoder_layers=2
    )
    unseen, waves = (Sinusoids(tasks=tasks, seed=tasks) for tasks in (100, 16))
    new = unseen.episode(0)
    optimizer = torch.optim.Adam(strategy.parameters(), 0.01)
    before = strategy.loss(new)[0].item()
    for step in range(100):
        optimizer.zero_grad()
        strategy.loss(waves.episode(step))[0].backward()
        optimizer.step()
    with torch.no_grad():
        assert strategy.loss(new)[0] < 0.4 * before
        error = F.mse_loss(strategy(new), new.query.targets)
    # The mean of all waves, which is what can be said without the points, leaves 0.7 of it.
    assert error < 0.5 * new.query.targets.square().mean()


@with_and_without
def test_half_precision_has_likelihoods_in_float32(has_latent):
    episode = numbers()
    torch.manual_seed(1)
    expected = tiny(2, latent=has_latent)(episode).float()
    support, query = (
        Examples(part.inputs.float(), part.targets.float())
        for part in (episode.support, episode.query)
    )
    strategy = tiny(2, latent=has_latent).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = strategy.loss(Episode(support, query, 2))[0]
        theta = strategy.adapt(support, 2)
        mean, deviation = strategy.predict_distribution(theta, query.inputs)
    assert loss.dtype == mean.dtype == deviation.dtype == torch.float32
    assert loss.isfinite()
    assert F.mse_loss(mean, expected) < 0.01 * expected.var()  # codes of 8 bits


# --- what cannot be ---


def test_there_is_nothing_to_draw_without_a_latent(make_episode):
    strategy = tiny(latent=False)
    theta = strategy.adapt(make_episode((4,)).support, 3)
    assert set(theta) == {"keys", "values", "members"}
    with pytest.raises(ValueError, match="no latent to draw"):
        strategy.drawn(theta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 0}, "heads is 0; it must be more than 0"),
        ({"heads": 4}, "width 6 must be a multiple of the 4 heads"),
        ({"layers": 0}, "layers is 0; it must be more than 0"),
        ({"decoder_layers": 1}, "decoder_layers is 1"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)
