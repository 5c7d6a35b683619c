"""Mixtures: what they draw, how often, and that it depends on (seed, index) alone."""

import dataclasses

import pytest
import torch

import quickstudy
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import MLP
from quickstudy.episodes import EpisodeSampler, Mixture, Sinusoids
from quickstudy.inputs import FeatureInputs
from quickstudy.strategies import PrototypicalNetwork


def classes(sign=1, number=6, each=8, size=3):
    """Every number of an example is its class plus a hundredth of its position, times a sign."""
    values = torch.arange(number)[:, None] + 1 + 0.01 * torch.arange(each)
    examples = (sign * values).flatten()[:, None].expand(-1, size).contiguous()
    labels = torch.arange(number).repeat_interleave(each).tolist()
    return ClassDataset.from_arrays(examples, labels, FeatureInputs(size))


def same(one, other):
    return one.ways == other.ways and all(
        torch.equal(a, b)
        for a, b in (
            (one.support.inputs, other.support.inputs),
            (one.support.targets, other.support.targets),
            (one.query.inputs, other.query.inputs),
            (one.query.targets, other.query.targets),
        )
    )


def samplers(tasks=2):
    return [
        EpisodeSampler(classes(1), ways=3, shots=1, queries=2, tasks=tasks, seed=5),
        EpisodeSampler(classes(-1), ways=(2, 4), shots=2, queries=3, tasks=tasks, seed=6),
    ]


def test_each_episode_is_the_episode_of_its_source():
    sources = samplers()
    mixture = Mixture(sources)
    drawn = [mixture.source(index) for index in range(20)]
    assert set(drawn) == {0, 1}
    for index, source in enumerate(drawn):
        assert same(mixture.episode(index), sources[source].episode(index))
        positive = bool((mixture.episode(index).support.inputs > 0).all())
        assert positive == (source == 0)
    assert mixture.ways == 4
    assert mixture.tasks == 2
    assert mixture.inputs.to_dict() == {"kind": "features", "size": 3}


def test_an_episode_depends_on_seed_and_index_alone():
    one, other = Mixture(samplers(), seed=1), Mixture(samplers(), seed=1)
    later = [other.episode(index) for index in (9, 3, 7)]
    assert all(same(one.episode(i), e) for i, e in zip((9, 3, 7), later, strict=True))
    seeded = Mixture(samplers(), seed=2)
    assert [one.source(i) for i in range(40)] != [seeded.source(i) for i in range(40)]


def test_some_tasks_of_an_episode():
    mixture = Mixture(samplers(tasks=5))
    whole, share = mixture.episode(3), mixture.episode(3, slice(1, None, 2))
    assert torch.equal(share.query.inputs, whole.query.inputs[1::2])


def test_sources_are_drawn_by_their_weights():
    weights = [1.0, 0.0, 3.0]
    mixture = Mixture([*samplers(), samplers()[0]], weights)
    drawn = torch.tensor([mixture.source(index) for index in range(2000)]).bincount(minlength=3)
    assert int(drawn[1]) == 0
    assert abs(int(drawn[2]) - 1500) < 80  # four standard errors are 77


def test_combinations_of_data_sets_ways_and_shots():
    small = classes(-1, number=3, each=4)
    mixture = Mixture.of_datasets(
        [classes(1), small], ways=(2, 5), shots=(1, 2, 6), queries=2, tasks=2
    )
    seen = {True: {}, False: {}}
    for index in range(1200):
        episode = mixture.episode(index)
        positive = bool((episode.support.inputs > 0).all())
        key = episode.ways, episode.support.targets.shape[1] // episode.ways
        seen[positive][key] = seen[positive].get(key, 0) + 1
        assert episode.query.targets.shape == (2, 2 * episode.ways)
    # The small data set has 3 classes of 4: no 5 ways, and with 2 queries no 6 shots.
    assert set(seen[True]) == {(way, shot) for way in (2, 5) for shot in (1, 2, 6)}
    assert set(seen[False]) == {(2, 1), (2, 2)}
    # Data sets equally often, then each combination: 100 each and 300 each, four standard errors.
    assert all(abs(count - 100) < 40 for count in seen[True].values())
    assert all(abs(count - 300) < 61 for count in seen[False].values())
    assert mixture.ways == 5


def test_a_strategy_trains_on_a_mixture():
    mixture = Mixture.of_datasets([classes(1), classes(-1)], (2, 4), (1, 3), queries=2, tasks=2)
    torch.manual_seed(0)
    strategy = PrototypicalNetwork(MLP((3,), (4,)))
    run = quickstudy.fit(strategy, mixture, tasks=2, steps=4, show_progress=False)
    assert run.progress["step"] == 4
    assert run.inputs.to_dict() == {"kind": "features", "size": 3}


def test_mixtures_of_mixtures_and_of_other_sources():
    inner = Mixture(samplers())
    outer = Mixture([inner, samplers()[0]], seed=3)
    index = next(i for i in range(20) if outer.source(i) == 0)
    assert same(outer.episode(index), inner.episode(index))
    waves = Mixture([Sinusoids(shots=5, tasks=2), Sinusoids(shots=10, tasks=2)])
    assert {waves.episode(i).support.inputs.shape[1] for i in range(20)} == {5, 10}


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="at least one source"):
        Mixture([])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="do not fit 2 sources"):
            Mixture(samplers(), weights)
    with pytest.raises(ValueError, match=r"\[2, 3\] tasks an episode"):
        Mixture([samplers(2)[0], samplers(3)[0]])
    long = EpisodeSampler(classes(size=4), ways=2, queries=2, tasks=2)
    with pytest.raises(ValueError, match=r"'size': 3.*'size': 4.*Embed the data sets"):
        Mixture([samplers()[0], long])
    bare = dataclasses.replace(classes(), inputs=None)
    with pytest.raises(ValueError, match="ClassDataset does not say how its inputs were made"):
        Mixture([EpisodeSampler(bare, ways=2, queries=2)])
    with pytest.raises(ValueError, match="index -1 is negative"):
        Mixture(samplers()).episode(-1)
    with pytest.raises(ValueError, match="has only 6 classes"):
        Mixture.of_datasets([classes()], ways=(7,), shots=(1,), queries=2)
