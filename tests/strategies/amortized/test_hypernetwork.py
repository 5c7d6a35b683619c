"""The hypernetwork: what it emits, how it mixes, and that it learns."""

import math

import pytest
import torch

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import Hypernetwork, PrototypicalNetwork

KINDS = ["cnn", "rnn", "transformer"]
LEARNERS = [
    ("linear",),
    ("nearest",),
    ("mlp",),
    ("linear", "nearest"),
    ("mlp", "nearest", "linear"),
]
SAME = {"rtol": 1e-9, "atol": 1e-9}  # float64 rounding


def tiny(seed=0, noise=0.2, **arguments):
    """In float64 and evaluation mode; ``noise`` moves weights away from zeros they start at."""
    torch.manual_seed(seed)
    encoder = Conv4((1, 8, 8), 3, blocks=2)
    strategy = Hypernetwork(encoder, **{"width": 8, **arguments}).double().eval()
    with torch.no_grad():
        for parameter in strategy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return strategy


@pytest.mark.parametrize("modulate", [False, True])
@pytest.mark.parametrize("learners", LEARNERS, ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_for_any_number_of_ways(make_episode, kind, learners, modulate):
    strategy = tiny(strategy_network=kind, learners=learners, modulate=modulate)
    for ways in (1, 2, 4):
        episode = make_episode((1, 8, 8), ways=ways, shots=[2] + [1] * (ways - 1))
        theta = strategy.adapt(episode.support, ways)
        assert all(type(value) is torch.Tensor for value in theta.values())
        assert type(theta) is dict
        assert all(value.shape[0] == 2 for value in theta.values())
        log_probabilities = strategy.predict(theta, episode.query.inputs)
        assert log_probabilities.shape == (2, 2 * ways, ways)
        total = log_probabilities.exp().sum(-1)
        torch.testing.assert_close(total, torch.ones_like(total), **SAME)


def learner_by_hand(name, theta, x):
    """The logits of one learner for one task's features ``[Q, D]``, from its θ."""
    own = {key.removeprefix(f"{name}."): value for key, value in theta.items() if name in key}
    if name == "linear":
        return x @ own["weight"].T + own["bias"]
    if name == "nearest":
        return -own["scale"] * (x[:, None] - own["points"]).square().sum(-1)
    hidden = (x @ own["hidden.weight"].T + own["hidden.bias"]).clamp(min=0)
    return hidden @ own["output.weight"].T + own["output.bias"]


@pytest.mark.parametrize("learners", LEARNERS, ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_the_mixture_that_theta_says(make_episode, kind, learners):
    strategy = tiny(strategy_network=kind, learners=learners)
    episode = make_episode((1, 8, 8), shots=[1, 3, 2])
    theta = strategy.adapt(episode.support, 3)
    got = strategy.predict(theta, episode.query.inputs)
    for task in range(2):
        own = {key: value[task] for key, value in theta.items()}
        features = strategy.encoder(episode.query.inputs[task])
        shares = own["log_shares"].exp()
        assert float(shares.sum().detach()) == pytest.approx(1)
        mixture = sum(
            share * learner_by_hand(name, own, features).softmax(-1)
            for share, name in zip(shares, learners, strict=True)
        )
        torch.testing.assert_close(got[task].exp(), mixture, **SAME)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_learner_begins_as_a_prototypical_network(make_episode, kind):
    strategy = tiny(noise=0.0, strategy_network=kind, learners=("nearest",))
    episode = make_episode((1, 8, 8), shots=[1, 3, 2])
    expected = PrototypicalNetwork(strategy.encoder).eval()(episode).log_softmax(-1)
    torch.testing.assert_close(strategy(episode), expected, **SAME)


@pytest.mark.parametrize("kind", KINDS)
def test_modulation_begins_as_the_encoder_is(make_episode, kind):
    strategy = tiny(noise=0.0, strategy_network=kind, learners=("nearest",), modulate=True)
    episode = make_episode((1, 8, 8))
    theta = strategy.condition(episode.support, 3)
    assert {name: value.shape for name, value in theta.items()} == {
        f"modulation.{layer}.{part}": (2, 3) for layer in (0, 1) for part in ("scale", "shift")
    }
    assert all(torch.equal(value, torch.zeros_like(value)) for value in theta.values())
    expected = PrototypicalNetwork(strategy.encoder).eval()(episode).log_softmax(-1)
    torch.testing.assert_close(strategy(episode), expected, **SAME)


def test_features_are_modulated_as_theta_says(make_episode):
    strategy = tiny(modulate=True)
    inputs = make_episode((1, 8, 8)).query.inputs
    theta = strategy.condition(make_episode((1, 8, 8)).support, 3)
    features = strategy.encode(inputs, theta)
    for task, example in ((0, 0), (0, 3), (1, 5)):
        own = [
            tuple(theta[f"modulation.{layer}.{part}"][task][None] for part in ("scale", "shift"))
            for layer in (0, 1)
        ]
        alone = strategy.encoder(inputs[task, example][None], own)[0]
        torch.testing.assert_close(features[task, example], alone, **SAME)
    assert not torch.allclose(
        features, strategy.encode(inputs, {k: 0 * v for k, v in theta.items()})
    )


def test_two_networks_read_when_modulating(make_episode):
    """The first reader's encoder is a copy: training one leaves the other."""
    strategy = tiny(modulate=True)
    first = {id(parameter) for parameter in strategy.first_encoder.parameters()}
    assert not first & {id(parameter) for parameter in strategy.encoder.parameters()}


def test_an_offset_shared_by_all_classes_is_not_learned(make_episode):
    """It would leave the softmax as it is, so a parameter for it could never get a gradient."""
    strategy = tiny(learners=("linear", "nearest", "mlp"))
    strategy.loss(make_episode((1, 8, 8)))[0].backward()
    for name, parameter in strategy.named_parameters():
        assert parameter.grad.abs().max() > 1e-9, name


# --- learning ---


def blobs(generator, tasks=8, ways=3, shots=2, queries=5):
    centres = 1.5 * torch.randn(tasks, ways, 1, 6, generator=generator)
    examples = centres + torch.randn(tasks, ways, shots + queries, 6, generator=generator)
    targets = torch.arange(ways)[:, None].expand(tasks, ways, shots + queries)

    def part(chosen):
        return Examples(examples[:, :, chosen].flatten(1, 2), targets[:, :, chosen].flatten(1, 2))

    return Episode(part(slice(shots)), part(slice(shots, None)), ways)


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_on_tasks_never_seen(kind):
    torch.manual_seed(0)
    strategy = Hypernetwork(
        MLP((6,), hidden=(16, 16)), kind, learners=("linear", "nearest", "mlp"), width=16
    )
    generator = torch.Generator().manual_seed(0)
    unseen = blobs(torch.Generator().manual_seed(1), tasks=100)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=3e-3)
    with torch.no_grad():
        before = float(strategy.loss(unseen)[0])
    for _ in range(60):
        optimizer.zero_grad()
        strategy.loss(blobs(generator))[0].backward()
        optimizer.step()
    with torch.no_grad():
        after = float(strategy.loss(unseen)[0])
    assert after < 0.75 * before
    assert after < 0.6 * math.log(3)  # well better than guessing


# --- what cannot be ---


@pytest.mark.parametrize("learners", [("tree",), ("linear", "tree"), ()])
def test_unknown_learners_are_refused(learners):
    with pytest.raises(ValueError, match=r"cannot be emitted; name one or more of linear, nearest"):
        tiny(learners=learners)


def test_an_unknown_strategy_network_is_refused():
    with pytest.raises(ValueError, match="strategy network 'gru' is unknown"):
        tiny(strategy_network="gru")


def test_an_encoder_that_cannot_be_modulated_is_refused():
    encoder = torch.nn.Flatten()
    encoder.out_features = 6
    with pytest.raises(ValueError, match=r"Flatten cannot be modulated.*or modulate=False"):
        Hypernetwork(encoder, modulate=True)


def test_an_encoder_that_states_no_length_is_refused():
    with pytest.raises(ValueError, match="Flatten does not say how long its vectors are"):
        Hypernetwork(torch.nn.Flatten())
