"""LEO against its equations, written out in loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import LEO
from quickstudy.strategies.amortized.leo import correlation_penalty, divergence_from_standard

from ...builders import Raw
from ..meta_gradients import finite_differences, gradients_of

# Two ways to write one computation in float64 differ by rounding only.
SAME = {"rtol": 1e-8, "atol": 1e-11}
LATENT = 3


def plain(**arguments):
    torch.manual_seed(0)
    strategy = LEO(Raw(), **{"latent": LATENT, "tuning_learning_rate": 0.1, **arguments}).double()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return strategy.eval()


def codes_by_hand(phi, x, y, ways):
    """μ and σ ``[ways, latent]`` from features ``[N, D]`` of length 1, one pair at a time."""
    means, deviations = [], []
    for k in range(ways):
        total, pairs = 0, 0
        for own in x[y == k]:
            for other in x:
                both = torch.cat([phi["relation.encoder.weight"] @ each for each in (own, other)])
                h = (phi["relation.first.weight"] @ both).clamp(min=0)
                h = (phi["relation.second.weight"] @ h).clamp(min=0)
                total = total + phi["relation.last.weight"] @ h
                pairs += 1
        found = total / pairs
        means.append(found[:LATENT])
        deviations.append(math.sqrt(1 / LATENT) * found[LATENT:].exp())
    return torch.stack(means), torch.stack(deviations)


def support_loss(w, x, y):
    return sum(-(w @ each).log_softmax(0)[target] for each, target in zip(x, y, strict=True))


def adaptation_by_hand(phi, x, y, ways, inner_steps, tuning_steps):
    """(μ, σ, z, z', w') of one task, in use: means take the place of samples."""
    x = torch.stack([each / each.square().sum().sqrt() for each in x])
    mean, deviation = codes_by_hand(phi, x, y, ways)

    def decode(z):
        return torch.stack([phi["decoder.weight"][: x.shape[1]] @ each for each in z])

    z = mean
    for _ in range(inner_steps):
        loss = support_loss(decode(z), x, y)
        (slope,) = torch.autograd.grad(loss, z, create_graph=True)
        z = z - phi["code_rates"] * slope
    w = decode(z)
    for _ in range(tuning_steps):
        (slope,) = torch.autograd.grad(support_loss(w, x, y), w, create_graph=True)
        w = w - phi["weight_rates"] * slope
    return mean, deviation, mean, z, w


@pytest.mark.parametrize(
    ("inner_steps", "tuning_steps"), [(3, 2), (0, 2), (4, 0)], ids=["both", "tuning", "codes"]
)
def test_loss_and_gradient_are_those_of_the_equations(make_episode, inner_steps, tuning_steps):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(
        inner_steps=inner_steps,
        tuning_steps=tuning_steps,
        divergence=0.3,
        encoder_penalty=0.7,
        weight_penalty=0.01,
        orthogonality=0.9,
    )
    phi = {n: p.detach().clone().requires_grad_() for n, p in strategy.named_parameters()}
    loss = 0
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        mean, deviation, start, end, w = adaptation_by_hand(phi, x, y, 3, inner_steps, tuning_steps)
        for query, target in zip(
            episode.query.inputs[task], episode.query.targets[task], strict=True
        ):
            logits = w @ (query / query.square().sum().sqrt())
            loss = loss - logits.log_softmax(0)[target] / 12
        standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        loss = loss + 0.3 * kl_divergence(Normal(mean, deviation), standard).mean() / 2
        loss = loss + 0.7 * (end.detach() - start).square().mean() / 2
    for name, each in phi.items():
        if "rates" not in name:
            loss = loss + 0.01 * each.square().sum()
    for i in range(LATENT):
        for j in range(LATENT):
            a, b = phi["decoder.weight"][:, i], phi["decoder.weight"][:, j]
            cosine = a @ b / a.square().sum().sqrt() / b.square().sum().sqrt()
            loss = loss + 0.9 * (cosine - int(i == j)).square() / LATENT**2
    used = {n: p for n, p in phi.items() if (n != "code_rates" or inner_steps)}
    used = {n: p for n, p in used.items() if (n != "weight_rates" or tuning_steps)}
    expected = dict(zip(used, torch.autograd.grad(loss, list(used.values())), strict=True))
    got = strategy.loss(episode)[0]
    torch.testing.assert_close(got, loss, **SAME)
    parameters = dict(strategy.named_parameters())
    found = torch.autograd.grad(got, [parameters[name] for name in used])
    torch.testing.assert_close(dict(zip(used, found, strict=True)), expected, **SAME)


def test_theta_is_the_weights_after_both_loops(make_episode):
    support = make_episode((4,), shots=[1, 3, 2]).support
    strategy = plain(inner_steps=3, tuning_steps=2)
    phi = dict(strategy.named_parameters())
    theta = strategy.adapt(support, 3)
    assert set(theta) == {"weight"}
    for task in range(2):
        *_, w = adaptation_by_hand(phi, support.inputs[task], support.targets[task], 3, 3, 2)
        torch.testing.assert_close(theta["weight"][task], w, **SAME)


def test_the_gradient_agrees_with_finite_differences(make_episode):
    """Without γ, whose stopped gradient is none of the loss's derivative."""
    episode = make_episode((4,), shots=[2, 1, 1], tasks=1)
    strategy = plain(inner_steps=2, tuning_steps=2, encoder_penalty=0.0, divergence=0.1)
    _, gradients = gradients_of(strategy, episode)
    expected = finite_differences(strategy, episode)
    torch.testing.assert_close(gradients, expected, rtol=1e-6, atol=1e-7)


def test_divergence_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_deviation = torch.randn(2, 4, 5, dtype=torch.float64)
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = kl_divergence(Normal(mean, log_deviation.exp()), standard)
    torch.testing.assert_close(divergence_from_standard(mean, log_deviation), expected, **SAME)


def test_orthogonal_columns_are_not_penalised():
    torch.manual_seed(0)
    weight = torch.linalg.qr(torch.randn(7, 3, dtype=torch.float64)).Q * torch.tensor([1, 2, 5.0])
    assert correlation_penalty(weight) < 1e-20
    same = torch.ones(7, 3, dtype=torch.float64)  # all cosines are 1, six of nine should be 0
    torch.testing.assert_close(
        correlation_penalty(same), torch.tensor(6 / 9, dtype=torch.float64), **SAME
    )


def test_steps_fit_the_support_better(make_episode):
    support = make_episode((4,), shots=[3, 1, 2]).support
    losses = []
    for inner_steps, tuning_steps in ((0, 0), (1, 0), (5, 0), (5, 10), (5, 50)):
        strategy = plain(
            inner_steps=inner_steps, tuning_steps=tuning_steps, inner_learning_rate=0.3
        )
        logits = strategy.predict(strategy.adapt(support, 3), support.inputs)
        losses.append(F.cross_entropy(logits.flatten(0, 1), support.targets.ravel()).item())
    assert losses == sorted(losses, reverse=True)


# --- training and use ---


def test_codes_and_weights_are_drawn_in_training_and_means_in_use(make_episode):
    episode = make_episode((4,), shots=[1, 3, 2])
    strategy = plain(dropout=0.0, inner_steps=0, tuning_steps=0)
    mean, log_deviation, start, _, weight = strategy.adapted(
        episode.support.inputs, episode.support.targets, 3
    )
    assert torch.equal(start, mean)
    assert torch.equal(strategy(episode), strategy(episode))
    strategy.train()
    torch.manual_seed(5)
    drawn = strategy.adapted(episode.support.inputs, episode.support.targets, 3)
    torch.manual_seed(5)
    codes = mean + log_deviation.exp() * torch.randn(2, 3, LATENT, dtype=torch.float64)
    torch.testing.assert_close(drawn.start, codes, **SAME)
    centre, change = (codes @ strategy.decoder.weight.mT).chunk(2, -1)
    # Glorot's deviation for a linear layer of 4 inputs and 3 outputs.
    deviation = math.sqrt(2 / (4 + 3)) * change.exp()
    expected = centre + deviation * torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(drawn.weight, expected, **SAME)
    assert not torch.allclose(expected, weight, rtol=1e-3)


def test_features_are_dropped_in_training(make_episode):
    episode = make_episode((4,))
    strategy = plain(dropout=0.5).train()
    theta = {"weight": torch.eye(4, dtype=torch.float64)[None].expand(2, -1, -1)}
    kept = strategy.predict(theta, episode.query.inputs)  # the features themselves
    unit = F.normalize(episode.query.inputs, dim=-1)
    assert ((kept == 0) | ((kept - 2 * unit).abs() < 1e-12)).all()
    assert 0 < (kept == 0).double().mean() < 1
    torch.testing.assert_close(strategy.eval().predict(theta, episode.query.inputs), unit, **SAME)


def test_a_frozen_encoder_stays_as_it_is(make_episode):
    episode = make_episode((1, 8, 8))
    torch.manual_seed(0)
    strategy = LEO(Conv4((1, 8, 8), 3, blocks=2), LATENT, dropout=0.2).double().train()
    assert strategy.training
    assert strategy.relation.training
    assert not any(module.training for module in strategy.encoder.modules())
    before = {name: each.clone() for name, each in strategy.encoder.state_dict().items()}
    learned = [each for each in strategy.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.1)
    strategy.loss(episode)[0].backward()
    optimizer.step()
    for name, each in strategy.encoder.state_dict().items():
        assert torch.equal(each, before[name]), name


def test_another_encoder_is_learned(make_episode):
    episode = make_episode((1, 8, 8))
    torch.manual_seed(0)
    encoder = Conv4((1, 8, 8), 3, blocks=2)
    strategy = LEO(encoder, LATENT, frozen=False).double().train()
    averages = encoder.state_dict()["norms.0.running_mean"].clone()
    strategy.loss(episode)[0].backward()
    assert not torch.equal(encoder.state_dict()["norms.0.running_mean"], averages)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_the_loss_embeds_each_example_once_and_tells_its_logits(make_episode):
    """Training reads the accuracy from what the forward pass returned."""
    episode = make_episode((4,))
    strategy = LEO(MLP((4,), (8, 4)), LATENT).double()
    seen, embedded = [], []
    strategy.register_forward_hook(lambda _, __, output: seen.append(output))
    strategy.encoder.register_forward_hook(lambda _, __, output: embedded.append(len(output)))
    strategy.loss(episode)
    assert embedded == [2 * (6 + 6)]
    assert [tuple(each.shape) for each in seen] == [(2, 6, 3)]


def blobs(generator, tasks=8, ways=3, shots=2, queries=5):
    centres = torch.randn(tasks, ways, 1, 6, generator=generator)
    examples = centres + 0.4 * torch.randn(tasks, ways, shots + queries, 6, generator=generator)
    targets = torch.arange(ways)[:, None].expand(tasks, ways, shots + queries)

    def part(chosen):
        return Examples(examples[:, :, chosen].flatten(1, 2), targets[:, :, chosen].flatten(1, 2))

    return Episode(part(slice(shots)), part(slice(shots, None)), ways)


def test_training_lowers_the_error_on_tasks_never_seen():
    torch.manual_seed(0)
    encoder = nn.Flatten()
    encoder.out_features = 6
    strategy = LEO(encoder, latent=8, inner_steps=2, tuning_steps=1, dropout=0.1)
    generator = torch.Generator().manual_seed(0)
    unseen = blobs(torch.Generator().manual_seed(1), tasks=100)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=0.01)

    def entropy():
        with torch.no_grad():
            logits = strategy.eval()(unseen)
        strategy.train()
        return F.cross_entropy(logits.flatten(0, 1), unseen.query.targets.flatten()).item()

    before = entropy()
    for _ in range(80):
        optimizer.zero_grad()
        strategy.loss(blobs(generator))[0].backward()
        optimizer.step()
    after = entropy()
    assert after < 0.75 * before
    assert after < 0.5 * math.log(3)  # well better than guessing


def test_inner_steps_are_in_float32_under_autocast(make_episode):
    episode = make_episode((4,))
    expected = plain()(episode).float()
    support, query = (
        Examples(e.inputs.bfloat16(), e.targets) for e in (episode.support, episode.query)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        strategy = plain().float()
        logits = strategy(Episode(support, query, 3))
        loss = strategy.train().loss(Episode(support, query, 3))[0]
    assert logits.dtype == loss.dtype == torch.float32
    # The inputs were rounded to three digits.
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
    loss.backward()
    assert all(each.grad.isfinite().all() for each in strategy.parameters())


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        assert plain()(make_episode((4,), ways=ways)).shape == (2, 2 * ways, ways)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent": 0}, "latent is 0; it must be more than 0"),
        ({"inner_steps": -1}, "inner_steps are -1, .* steps must be 0 or more"),
        ({"tuning_steps": -2}, "tuning_steps -2"),
        ({"dropout": 1.0}, "dropout 1.0; .* from 0 to below 1"),
        ({"divergence": -0.1}, "divergence is -0.1, .* none may be negative"),
        ({"encoder_penalty": -1.0}, "encoder_penalty -1.0"),
        ({"weight_penalty": -1.0}, "weight_penalty -1.0"),
        ({"orthogonality": -1.0}, "orthogonality -1.0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LEO(Raw(), **arguments)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        LEO(nn.Flatten())
