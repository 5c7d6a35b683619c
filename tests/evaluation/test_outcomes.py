"""Outcomes: the same on features that were computed once as on images."""

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP, Conv4
from quickstudy.episodes import EpisodeSampler
from quickstudy.evaluation import outcomes as validation
from quickstudy.evaluation.outcomes import has_fixed_encoder, outcomes
from quickstudy.strategies import MAML, Hypernetwork, NearestNeighbor, PrototypicalNetwork

from ..builders import make_blobs

PROTOCOL = {"ways": 4, "shots": 2, "queries": 3}


def dataset(classes=10):
    return make_blobs(classes, each=8)


def use_images(monkeypatch):
    """From now on every strategy is asked through ``adapt`` and ``predict`` alone."""
    monkeypatch.setattr(validation, "has_fixed_encoder", lambda strategy: False)


def logits_and_targets(strategy, data, **protocol):
    made = list(outcomes(strategy, data, **protocol))
    logits = torch.cat([outcome.logits.flatten(0, 1) for outcome in made])
    return logits, torch.cat([outcome.targets.flatten() for outcome in made])


class Counting(nn.Module):
    """Remembers every image that it encoded."""

    def __init__(self, encoder=None):
        super().__init__()
        self.encoder = nn.Flatten() if encoder is None else encoder
        self.seen = []

    def forward(self, x):
        self.seen += [image.numpy().tobytes() for image in x]
        return self.encoder(x)


@pytest.mark.parametrize(
    "strategy",
    [
        PrototypicalNetwork(Conv4((1, 8, 8), channels=4, blocks=2)),
        PrototypicalNetwork(MLP((1, 8, 8)), "cosine", scale=10),
        NearestNeighbor(),
        NearestNeighbor(Conv4((1, 8, 8), channels=4, blocks=2), "cosine"),
    ],
)
@pytest.mark.parametrize("data", [dataset(), dataset().expand(4).select(range(3, 30, 2))])
def test_features_give_the_same_logits_as_images(strategy, data, monkeypatch):
    assert has_fixed_encoder(strategy)
    logits, targets = logits_and_targets(strategy, data, episodes=300, seed=5, **PROTOCOL)
    use_images(monkeypatch)
    expected, same = logits_and_targets(strategy, data, episodes=300, seed=5, **PROTOCOL)
    assert logits.shape == (300 * 12, 4)
    assert torch.equal(targets, same)
    # Batches of another size are added up in another order: float32 rounding of squared distances.
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_variable_ways_and_shots_on_features(monkeypatch):
    strategy, data = NearestNeighbor(), dataset()
    protocol = {"ways": (2, 5), "shots": (1, 3), "queries": 2, "seed": 3, "episodes": 20}
    made = list(outcomes(strategy, data, **protocol))
    use_images(monkeypatch)
    expected = list(outcomes(strategy, data, **protocol))
    assert len({outcome.logits.shape for outcome in made}) > 1
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one.logits, other.logits)
        assert torch.equal(one.targets, other.targets)


@pytest.fixture
def looked(monkeypatch):
    """Leaves out the look at a few images by which it is found out what a network does."""
    monkeypatch.setattr(validation, "observed", lambda *_: None)


@pytest.mark.parametrize("episodes", [3, 1000])
def test_each_image_is_encoded_at_most_once_and_only_if_needed(episodes, looked):
    data, encoder = dataset(), Counting()
    sum(1 for _ in outcomes(NearestNeighbor(encoder), data, episodes=episodes, **PROTOCOL))
    assert len(set(encoder.seen)) == len(encoder.seen)
    sampler = EpisodeSampler(data, **PROTOCOL, tasks=episodes)
    episode = sampler.episode(0)
    needed = torch.cat([episode.support.inputs, episode.query.inputs], 1).flatten(0, 1)
    assert set(encoder.seen) == {image.numpy().tobytes() for image in needed}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("shots", [2, (1, 2)])
@pytest.mark.parametrize("episodes", [1, 2, 700])
def test_ranks_share_the_tasks(ranks, shots, episodes, monkeypatch):
    data = dataset()
    protocol = PROTOCOL | {"shots": shots, "episodes": min(episodes, 40 if shots != 2 else 700)}
    alone = [o.accuracies for o in outcomes(NearestNeighbor(), data, **protocol)]
    monkeypatch.setattr(validation, "ranks", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(validation, "rank", lambda rank=rank: rank)
        shares.append([o.accuracies for o in outcomes(NearestNeighbor(), data, **protocol)])
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    in_turns = [shares[turn % ranks][turn // ranks] for turn in range(len(alone))]
    assert sum(map(len, shares)) == len(alone)
    assert all(torch.equal(one, other) for one, other in zip(alone, in_turns, strict=True))


def test_ranks_encode_each_example_once(monkeypatch, looked):
    data, seen = dataset(classes=100), []
    monkeypatch.setattr(validation, "ranks", lambda: 2)
    monkeypatch.setattr(validation, "gathered_rows", lambda own, n, _: own.new_ones(n, 64))
    for rank in range(2):
        encoder = Counting()
        monkeypatch.setattr(validation, "rank", lambda rank=rank: rank)
        sum(1 for _ in outcomes(NearestNeighbor(encoder), data, episodes=1000, **PROTOCOL))
        seen.append(encoder.seen)
    assert [len(each) for each in seen] == [256 + 256, 256 + 32]  # batches by turns
    assert len(set(seen[0] + seen[1])) == 800


def test_without_the_memory_for_features_images_are_used(monkeypatch):
    data, encoder = dataset(), Counting()
    strategy = NearestNeighbor(encoder)
    expected, _ = logits_and_targets(strategy, data, episodes=50, **PROTOCOL)
    monkeypatch.setattr(validation, "MOST_FEATURE_BYTES", 100)
    encoder.seen.clear()
    logits, _ = logits_and_targets(strategy, data, episodes=50, **PROTOCOL)
    assert len(encoder.seen) > 50 * 20
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("chunk", [1, 2**12, 2**30])
def test_the_size_of_a_chunk_changes_nothing(chunk, monkeypatch):
    expected, targets = logits_and_targets(NearestNeighbor(), dataset(), episodes=300, **PROTOCOL)
    monkeypatch.setitem(validation.FEATURE_BYTES_AT_ONCE, "cpu", chunk)
    logits, same = logits_and_targets(NearestNeighbor(), dataset(), episodes=300, **PROTOCOL)
    torch.testing.assert_close(logits, expected)
    assert torch.equal(targets, same)


def test_a_data_set_of_features_is_used_as_it_is(monkeypatch):
    features = dataset().embed(nn.Flatten())
    monkeypatch.setattr(validation, "embed_examples", None)  # would fail
    view = features.select([7, 2, 9, 1, 4])
    logits, _ = logits_and_targets(NearestNeighbor(), view, episodes=50, **PROTOCOL)
    monkeypatch.undo()
    images = dataset().select([7, 2, 9, 1, 4])
    expected, _ = logits_and_targets(NearestNeighbor(), images, episodes=50, **PROTOCOL)
    torch.testing.assert_close(logits, expected)
    learned = PrototypicalNetwork(MLP((64,)))
    assert len(logits_and_targets(learned, view, episodes=50, **PROTOCOL)[0]) == 50 * 12


class OwnEncode(PrototypicalNetwork):
    def encode(self, inputs, theta):
        features = super().encode(inputs, theta)
        return features - features.mean(1, keepdim=True)


class OfOwnEncode(OwnEncode):
    pass


class Doubling:
    def predict(self, theta, inputs):
        return super().predict(theta, 2 * inputs)


class Mixed(Doubling, PrototypicalNetwork):
    pass


class Declared(PrototypicalNetwork):
    fixed_encoder = True

    def predict(self, theta, inputs):
        return super().predict(theta, inputs)


def test_who_encodes_alike_in_every_task():
    def conv(**settings):
        return Conv4((1, 8, 8), channels=4, blocks=2, **settings)

    assert has_fixed_encoder(PrototypicalNetwork(conv()))
    assert has_fixed_encoder(PrototypicalNetwork(conv(normalization="group")))
    assert not has_fixed_encoder(MAML(conv(), ways=4))
    assert not has_fixed_encoder(Hypernetwork(conv(), modulate=True))
    assert not has_fixed_encoder(OwnEncode(conv()))
    without_averages = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False))
    assert not has_fixed_encoder(PrototypicalNetwork(without_averages))
    assert not has_fixed_encoder(OfOwnEncode(conv()))
    assert not has_fixed_encoder(Mixed(conv()))
    assert has_fixed_encoder(Declared(conv()))
    patched = PrototypicalNetwork(conv())
    patched.encode = lambda inputs, theta: inputs.flatten(2)
    assert not has_fixed_encoder(patched)


@pytest.mark.parametrize(
    "strategy",
    [
        MAML(MLP((1, 8, 8)), ways=4),
        MAML(Conv4((1, 8, 8), channels=4, blocks=2), ways=4, transductive=True),
        Hypernetwork(Conv4((1, 8, 8), channels=4, blocks=2), modulate=True),
        OwnEncode(MLP((1, 8, 8))),
    ],
)
def test_other_strategies_see_each_task_as_a_whole(strategy):
    logits, _ = logits_and_targets(strategy, dataset(), episodes=3, **PROTOCOL)
    episode = EpisodeSampler(dataset(), **PROTOCOL, tasks=3).episode(0)
    strategy.eval()
    theta = strategy.adapt(episode.support, 4)
    expected = strategy.predict(theta, episode.query.inputs).flatten(0, 1)
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)  # float32


def test_seconds_include_the_encoder_as_new_tasks_would(monkeypatch):
    """An encoder of a second an image: a clock that each call moves on."""
    clock = [0.0]

    class Slow(nn.Flatten):
        def forward(self, x):
            clock[0] += len(x)
            return super().forward(x)

    monkeypatch.setattr("quickstudy.compute.encoding.time.perf_counter", lambda: clock[0])
    made = list(outcomes(NearestNeighbor(Slow()), dataset(), episodes=300, **PROTOCOL))
    assert sum(o.adapt_seconds for o in made) == pytest.approx(300 * 4 * 2)
    assert sum(o.predict_seconds for o in made) == pytest.approx(300 * 4 * 3)


def test_it_tells_how_far_the_embedding_is():
    told = []
    made = outcomes(
        NearestNeighbor(),
        dataset(),
        episodes=100,
        embedded=lambda *counts: told.append(counts),
        **PROTOCOL,
    )
    assert next(made).logits.shape[1:] == (12, 4)
    assert told == [(64, 80), (80, 80)]


def test_the_strategy_is_left_alone():
    strategy = PrototypicalNetwork(Conv4((1, 8, 8), channels=4, blocks=2)).train()
    before = {name: value.clone() for name, value in strategy.state_dict().items()}
    for outcome in outcomes(strategy, dataset(), episodes=20, **PROTOCOL):
        assert not outcome.logits.requires_grad
    assert all(module.training for module in strategy.modules())
    assert all(torch.equal(before[name], value) for name, value in strategy.state_dict().items())
