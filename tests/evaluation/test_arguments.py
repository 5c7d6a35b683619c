"""What people hand to fit and evaluate: their own sources of tasks, counts, and wrong things."""

import types

import numpy as np
import pytest
import torch
from torch import nn

import quickstudy as qs
from quickstudy.episodes import BatchSampler, Episode, EpisodeSampler, Examples, Mixture, Sinusoids
from quickstudy.inputs import FeatureInputs

from ..builders import fit, prototypes, vectors


def waves():
    torch.manual_seed(0)
    return qs.strategies.MAML(qs.encoders.MLP((1,)), ways=1, inner_learning_rate=0.01)


class Source:
    """Easy tasks of one's own, with an ``episode(number)`` and no more."""

    def __init__(self, seed=0, tasks=2, ways=5):
        self.own = (seed, tasks, ways)

    def episode(self, number):
        seed, tasks, ways = self.own
        draw = torch.Generator().manual_seed(1000 * seed + number)
        means = 8 * torch.randn(tasks, ways, 16, generator=draw)
        of = torch.arange(ways).repeat(3).expand(tasks, -1)

        def spots():
            return means[:, of[0]] + torch.randn(tasks, 3 * ways, 16, generator=draw)

        return Episode(Examples(spots(), of), Examples(spots(), of), ways)


class Growing(Source):
    """Tasks of two ways and of five, turn by turn."""

    ways = 5

    def episode(self, number):
        self.own = (*self.own[:2], 2 if number % 2 else 5)
        return super().episode(number)


def learns(strategy, *data, **settings):
    before = [p.clone() for p in strategy.parameters()]
    run = fit(strategy, *data, **settings)
    assert not all(map(torch.equal, before, strategy.parameters()))
    return run


# -- sources of tasks -----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [qs.strategies.PrototypicalNetwork, qs.strategies.MAML])
def test_whatever_has_an_episode_of_a_number_is_a_source_of_tasks(strategy):
    run = learns(strategy(qs.encoders.MLP((16,))), Source(), tasks=2)
    assert run.inputs == FeatureInputs(16)  # of the first episode, as nothing else was stated


def test_a_source_of_tasks_validates_too():
    run = fit(prototypes(), Source(), Source(seed=1), tasks=2)
    assert run.progress["best_accuracy"] == pytest.approx(1.0, abs=0.05)


def test_a_source_of_tasks_can_be_evaluated_on():
    strategy = qs.strategies.PrototypicalNetwork(nn.Identity())
    report = qs.evaluate(strategy, Source(), episodes=5)
    assert report.accuracy.mean > 0.97
    assert (report.ways, report.shots, report.queries, report.episodes) == (5, 3, 3, 5)
    assert len(report.accuracies) == 5
    assert report.data == "Source"
    # Of one task an episode they are the same tasks, one by one.
    ones = types.SimpleNamespace(episode=lambda n: Source().episode(n // 2)[n % 2 : n % 2 + 1])
    assert torch.equal(qs.evaluate(strategy, ones, episodes=5).accuracies, report.accuracies)


def test_ways_may_vary_between_the_episodes_of_a_source():
    learns(prototypes(), Growing(), Growing(seed=1), tasks=2, steps=3)
    report = qs.evaluate(prototypes(), Growing(), episodes=6)
    assert report.ways == (2, 5)
    assert report.protocol == "2-5-way 3-shot"
    with pytest.raises(ValueError, match="has 5 ways, but Falling states 2"):
        fit(prototypes(), type("Falling", (Growing,), {"ways": 2})(), tasks=2)


def test_samplers_and_mixtures_are_sources():
    data = vectors()
    parts = data.split((0.5, 0.5))
    sampler = EpisodeSampler(parts["train"], ways=(2, 4), shots=1, queries=3, tasks=2)
    learns(prototypes(), sampler, parts["test"], tasks=2, validation_ways=3)
    mixture = Mixture([sampler, Source()])
    learns(prototypes(), mixture, tasks=2)
    report = qs.evaluate(prototypes(), mixture, episodes=8)
    assert report.ways[1] == 5  # of Source
    batches = BatchSampler(data, size=16, tasks=2)
    learns(qs.strategies.Baseline(qs.encoders.MLP((16,)), classes=12), batches, tasks=2)
    with pytest.raises(ValueError, match="PrototypicalNetwork learns from tasks, which BatchS"):
        fit(prototypes(), batches, tasks=2)
    with pytest.raises(ValueError, match="Baseline learns from ordinary batches"):
        fit(qs.strategies.Baseline(qs.encoders.MLP((16,)), classes=12), Source(), tasks=2)


def test_regression_is_validated_and_evaluated_by_its_squared_error(tmp_path):
    tasks, other = Sinusoids(tasks=5), Sinusoids(tasks=5, seed=1)
    strategy = waves()
    run = fit(strategy, tasks, other, tasks=5, out=tmp_path, validate_every=1)
    report = qs.evaluate(run, other, episodes=4)
    tested = other.episode(0, slice(4))
    with torch.no_grad():
        error = float((run.strategy.eval()(tested) - tested.query.targets).square().mean())
    assert report.squared_error.mean == pytest.approx(error, rel=1e-5)
    assert run.progress["best_accuracy"] == pytest.approx(-error, rel=1e-5)
    assert "squared error" in str(report)
    assert report.protocol == "regression, 10 examples per task"
    report.save(tmp_path / "report.json")
    assert "NaN" not in (tmp_path / "report.json").read_text()
    again = qs.evaluation.Report.load(tmp_path / "report.json")
    assert again.squared_error == report.squared_error
    assert np.isnan(again.accuracy.mean)


def bad(**changes):
    """A source that is as it should be but for some attributes."""
    return types.SimpleNamespace(**{"episode": Source().episode} | changes)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source, "Source is a class of sources of tasks; give an instance"),
        (bad(tasks=3), "episode.0. has 2 tasks, but SimpleNamespace states 3"),
        (bad(episode=lambda n: Source(tasks=2 + n).episode(n)), "has 3 tasks, but .* states 2"),
        (bad(episode=lambda n: (1, 2)), "returned a tuple; it must return an Episode"),
        (bad(episode=lambda n, size: 0), r"needs more than the number of an episode \(size\)"),
        (bad(episode=lambda: 0), "takes no number"),
        (bad(inputs="images"), "inputs is a str"),
        ([Source().episode(0)], "a list, perhaps of episodes.*episode.number"),
        ((Source().episode(n) for n in range(3)), "generator, perhaps of episodes.*episode.number"),
    ],
    ids=["class", "stated", "grows", "tuple", "arguments", "none", "inputs", "list", "generator"],
)
def test_what_is_wrong_with_a_source_is_said(source, said):
    with pytest.raises(ValueError, match=said):
        fit(prototypes(), source, tasks=2)


def test_pictures_of_a_source_need_inputs():
    part = Examples(torch.zeros(1, 4, 3, 8, 8), torch.arange(4)[None])
    source = types.SimpleNamespace(episode=lambda number: Episode(part, part, 4))
    with pytest.raises(ValueError, match=r"Give it an attribute `inputs`"):
        fit(prototypes(), source)


def test_validation_tasks_are_others_than_those_of_training():
    with pytest.raises(ValueError, match=r"the training tasks.*another seed"):
        fit(waves(), Sinusoids(tasks=5), Sinusoids(tasks=5), tasks=5)
    with pytest.raises(ValueError, match="not drawn from classes"):
        fit(waves(), Sinusoids(tasks=5), vectors(size=1), tasks=5)
    with pytest.raises(
        ValueError, match=r"read with other inputs than the training data.*size: 16, not 4"
    ):
        fit(prototypes(), vectors(), vectors(size=4))


def test_numbers_are_no_classes():
    with pytest.raises(ValueError, match="targets of Sinusoids are numbers, but PrototypicalNet"):
        fit(qs.strategies.PrototypicalNetwork(qs.encoders.MLP((1,))), Sinusoids(tasks=2), tasks=2)


def test_the_tasks_of_a_source_come_as_they_are():
    with pytest.raises(ValueError, match="ways, seed cannot be chosen here, because Source"):
        qs.evaluate(prototypes(), Source(), ways=3, seed=4, episodes=4)


# -- counts ---------------------------------------------------------------------------------------


def test_counts_may_be_whole_numbers_of_numpy(tmp_path):
    data, strategy = vectors(spread=0.5), qs.strategies.PrototypicalNetwork(nn.Identity())
    settings = {"queries": 3, "episodes": 4}
    right = qs.evaluate(strategy, data, ways=5, shots=2, **settings)
    found = qs.evaluate(strategy, data, ways=np.int64(5), shots=np.int64(2), **settings)
    assert torch.equal(right.accuracies, found.accuracies)
    assert found.protocol == right.protocol == "5-way 2-shot"
    found.save(tmp_path / "report.json")
    numbers = {"ways": np.int64(5), "shots": torch.tensor(2), "seed": np.uint8(3), "tasks": 2.0}
    run = fit(prototypes(), data, out=tmp_path / "run", **numbers)
    assert {name: run.config[name] for name in numbers} == {
        "ways": 5, "shots": 2, "seed": 3, "tasks": 2,
    }  # fmt: skip
    # Plain numbers in the files, so that the run is found to be the same.
    fit(prototypes(), data, out=tmp_path / "run", resume=True, ways=5, shots=2, seed=3, tasks=2)


@pytest.mark.parametrize("count", [True, np.bool_(True), 2.5, "2", None, float("nan")])
def test_what_is_no_count_is_refused(count):
    for name in ("ways", "shots", "queries", "tasks", "steps"):
        with pytest.raises(ValueError, match=f"^{name} is .*a whole number"):
            qs.Trainer(**{name: count})


def test_training_takes_ranges_of_ways_and_shots(tmp_path):
    ranges = {"ways": (2, 5), "shots": (1, 5), "tasks": 2}
    seen = []

    class Watched(qs.strategies.PrototypicalNetwork):
        def loss(self, episode, features=None):
            seen.append((episode.ways, episode.support.inputs.shape[1] // episode.ways))
            return super().loss(episode, features)

    torch.manual_seed(0)
    learns(Watched(qs.encoders.MLP((16,))), vectors(), vectors(seed=1), steps=6, **ranges)
    assert len({ways for ways, _ in seen}) > 1
    assert len({shots for _, shots in seen}) > 1
    assert {2, 3, 4, 5}.issuperset(ways for ways, _ in seen)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    one = fit(prototypes(), vectors(), out=whole, **ranges, **{"steps": 4})
    fit(prototypes(), vectors(), out=halves, **ranges)
    two = fit(prototypes(), vectors(), out=halves, resume=True, **ranges, **{"steps": 4})
    assert all(map(torch.equal, one.strategy.parameters(), two.strategy.parameters()))


def test_who_has_an_output_for_each_class_takes_no_range_of_ways():
    maml = qs.strategies.MAML(qs.encoders.MLP((16,)), ways=3)
    with pytest.raises(ValueError, match="This MAML was made for"):
        fit(maml, vectors(), ways=(2, 5))
    with pytest.raises(ValueError, match="tasks of 2 to 5 ways"):
        qs.evaluate(maml, vectors(), ways=(2, 5), episodes=2)
    learns(maml, vectors(), ways=(3, 3), shots=(1, 3), tasks=2)


# -- defaults -------------------------------------------------------------------------------------


def test_usual_numbers_fall_to_what_there_is_and_asked_ones_do_not():
    few = vectors(classes=3, each=4)
    with pytest.warns(UserWarning, match=r"3 classes, so tasks have 3 ways and classes of 4 exam"):
        report = qs.evaluate(prototypes(), few, episodes=4)
    assert (report.ways, report.shots, report.queries) == (3, 1, 3)
    with pytest.raises(ValueError, match="only 3 classes"):
        qs.evaluate(prototypes(), few, ways=5, episodes=4)
    with pytest.raises(ValueError, match="has 4 examples"):
        qs.evaluate(prototypes(), few, ways=2, queries=15, episodes=4)
    with pytest.warns(UserWarning, match="3 classes, so tasks have 3 ways"):
        fit(prototypes(), vectors(), few)
    with pytest.raises(ValueError, match="only 3 classes"):
        fit(prototypes(), vectors(), few, validation_ways=5)


def test_a_strategy_made_for_some_ways_is_measured_on_as_many():
    report = qs.evaluate(qs.strategies.MAML(qs.encoders.MLP((16,)), ways=3), vectors(), episodes=2)
    assert report.ways == 3


def test_patience_without_validation_is_refused_or_warned_of():
    with pytest.raises(ValueError, match="patience is 2, but there are no validation data"):
        fit(prototypes(), vectors(), patience=2)


# -- things in the wrong place --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("glyphs", r"'glyphs', a name; .*load_dataset\('glyphs'\).split"),
        (None, "No data for training was given"),
        ({"train": 1}, "dict of 'train'; give one part of it"),
        (nn.Linear(2, 2), "Linear, which is a network"),
        (torch.zeros(3, 2), "Tensor; give a ClassDataset.*from_arrays"),
        (torch.utils.data.DataLoader([1, 2]), "DataLoader, which gives batches"),
        (5, "is a int; give a ClassDataset"),
    ],
    ids=["name", "none", "parts", "network", "array", "loader", "number"],
)
def test_what_is_no_data_set_is_refused_by_fit(given, said):
    with pytest.raises(ValueError, match=said):
        fit(prototypes(), given)
    with pytest.raises(ValueError, match=said.replace("training", "evaluation")):
        qs.evaluate(prototypes(), given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (qs.strategies.PrototypicalNetwork, "the class PrototypicalNetwork; give an instance"),
        (nn.Linear(2, 2), "a Linear, which is a network, not a strategy"),
        (qs.encoders.MLP, "a MLP, which is a network, not a strategy"),
        ("MAML", "The strategy is 'MAML'; give an object"),
        (None, "The strategy is NoneType"),
        (vectors(), "holds data; the strategy comes first"),
    ],
    ids=["class", "encoder", "encoder class", "name", "none", "swapped"],
)
def test_what_is_no_strategy_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        fit(given, vectors())
    with pytest.raises(ValueError, match=said):
        qs.evaluate(given, vectors())


def test_numbers_as_targets_have_an_axis_of_their_own():
    class Lines:
        inputs, ways = FeatureInputs(2), 1

        def episode(self, number):
            points = torch.randn(2, 10, 2)
            part = Examples(points, points.sum(-1))  # [T, N], which would be broadcast
            return Episode(part, part, 1)

    with pytest.raises(ValueError, match=r"\[T, N, D\]"):
        fit(qs.strategies.MAML(qs.encoders.MLP((2,)), ways=1), Lines(), tasks=2)
