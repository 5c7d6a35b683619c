"""LaplacianShot against its updates written with loops, and the energy that they make small."""

import math
import warnings

import pytest
import torch
from torch import nn

from quickstudy.encoders import MLP
from quickstudy.episodes import BatchSampler, Episode, EpisodeSampler, Examples
from quickstudy.runs import Checkpoint, load
from quickstudy.runs.run import RunDirectory
from quickstudy.strategies import LaplacianShot, SimpleShot
from quickstudy.strategies.functional import class_means, similarity
from quickstudy.strategies.transductive.bd_cspn import rectified
from quickstudy.strategies.transductive.laplacian_shot import nearest_neighbors
from quickstudy.training import Trainer

from ...builders import make_blobs

SAME = {"rtol": 1e-8, "atol": 1e-10}  # float64, by other sums, through many steps


def laplacian(**arguments):
    return LaplacianShot(nn.Flatten(), **arguments).double()


def by_loops(prototypes, queries, smoothness, neighbors, steps):
    """The labels of one task's queries, prototypes and queries being ready."""
    count, ways = len(queries), len(prototypes)
    distances = [[float((x - m).square().sum()) for m in prototypes] for x in queries]
    near = []
    for q in range(count):
        others = [p for p in range(count) if p != q]
        others.sort(key=lambda p, q=q: float((queries[q] - queries[p]).square().sum()))
        near.append(others[:neighbors])

    def softmax(scores):
        return [math.exp(s) / sum(map(math.exp, scores)) for s in scores]

    labels = [softmax([-d for d in row]) for row in distances]
    for _ in range(steps):
        labels = [
            softmax(
                [
                    -distances[q][k] + smoothness * sum(labels[p][k] for p in near[q])
                    for k in range(ways)
                ]
            )
            for q in range(count)
        ]
    return torch.tensor(labels, dtype=torch.float64)


def by_the_program(support, labels, queries, ways, sharpness=10.0):
    """One task's rectified prototypes, example by example, as the authors' program has them."""
    means = [support[labels == k].mean(0) for k in range(ways)]
    joined = [[] for _ in range(ways)]
    for x in [*support, *queries]:
        cosines = [float(x @ m / x.norm() / m.norm()) for m in means]
        exponentials = [math.exp(sharpness * cosine) for cosine in cosines]
        nearest = cosines.index(max(cosines))
        joined[nearest].append(exponentials[nearest] / sum(exponentials) * x)
    return torch.stack(
        [sum(own) / len(own) if own else mean for own, mean in zip(joined, means, strict=True)]
    )


@pytest.mark.parametrize(("neighbors", "steps"), [(0, 5), (2, 1), (3, 20), (50, 4)])
@pytest.mark.parametrize("arguments", [{"rectify": False}, {}, {"confident": 8}])
@pytest.mark.parametrize("centred", [False, True])
def test_predictions_are_those_of_the_updates_written_with_loops(
    make_episode, neighbors, steps, arguments, centred
):
    episode = make_episode((5,), shots=[1, 3, 2], queries=4)
    strategy = laplacian(smoothness=0.8, neighbors=neighbors, steps=steps, **arguments)
    mean = torch.linspace(-1, 1, 5, dtype=torch.float64) * centred
    strategy.running_mean = mean
    logits = strategy(episode)
    labels = episode.support.targets
    support, queries = episode.support.inputs - mean, episode.query.inputs - mean
    support, queries = (x / x.norm(dim=-1, keepdim=True) for x in (support, queries))
    prototypes = class_means(support, labels, 3)
    if arguments != {"rectify": False}:
        queries = queries + support.mean(1, keepdim=True) - queries.mean(1, keepdim=True)
        prototypes = torch.stack(
            [by_the_program(*task, 3) for task in zip(support, labels, queries, strict=True)]
        )
    if "confident" in arguments:  # has tests of its own
        members = nn.functional.one_hot(labels, 3).double()
        prototypes = rectified(support, members, queries, 8, 10.0)
    for task in range(2):
        expected = by_loops(prototypes[task], queries[task], 0.8, neighbors, steps)
        torch.testing.assert_close(logits[task].softmax(-1), expected, **SAME)


def one_task(support, labels, queries, ways):
    count = torch.zeros(1, len(queries), dtype=torch.int64)
    return Episode(Examples(support[None], labels[None]), Examples(queries[None], count), ways)


def test_laplacian_shot_rectifies_prototypes_as_its_program_does():
    """A case solved by hand, whose prototypes are known to three digits."""
    support = nn.functional.normalize(
        torch.tensor([[1, 0, 0.2], [0, 1, 0.2]], dtype=torch.float64), dim=-1
    )
    queries = torch.tensor(
        [[0.9, 0.4, 0.1], [0.8, 0.1, 0.5], [0.2, 0.9, 0.3], [0.45, 0.6, 0.1]], dtype=torch.float64
    )
    queries, labels = nn.functional.normalize(queries, dim=-1), torch.tensor([0, 1])
    shifted = queries + support.mean(0) - queries.mean(0)
    prototypes = by_the_program(support, labels, shifted, 2)
    known = torch.tensor([[0.811, 0.124, 0.227], [0.163, 0.846, 0.164]], dtype=torch.float64)
    torch.testing.assert_close(prototypes, known, rtol=0, atol=6e-4)
    logits = laplacian(steps=0)(one_task(support, labels, queries, 2))[0]
    torch.testing.assert_close(logits, -(torch.cdist(shifted, prototypes) ** 2), **SAME)


def test_support_examples_count_for_the_class_that_they_are_nearest_to():
    """The second example of class 0 lies beside class 1, whose prototype it then helps to make."""
    support = torch.tensor([[1, 0], [0.05, 1], [1, 0.1], [0, 1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    queries = torch.tensor([[1, 0.2], [0.1, 1]], dtype=torch.float64)
    support, queries = (x / x.norm(dim=-1, keepdim=True) for x in (support, queries))
    shifted = queries + support.mean(0) - queries.mean(0)
    logits = laplacian(steps=0)(one_task(support, labels, queries, 2))[0]
    right = -(torch.cdist(shifted, by_the_program(support, labels, shifted, 2)) ** 2)
    torch.testing.assert_close(logits, right, **SAME)


def test_a_class_that_no_example_is_nearest_to_keeps_its_mean():
    """Class 1's two examples lie on either side of it and beside the classes 0 and 2."""
    angles = torch.tensor([0.0, 0.05, 1.55, 1.6], dtype=torch.float64)
    support = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 1, 1, 2])
    means = torch.stack([support[0], support[1:3].mean(0), support[3]])
    queries = support[[0, 3]]
    shifted = queries + support.mean(0) - queries.mean(0)
    nearest = nn.functional.cosine_similarity(
        torch.cat([support, shifted])[:, None], means[None], dim=-1
    ).argmax(1)
    assert 1 not in nearest, "choose other angles"
    logits = laplacian(steps=0)(one_task(support, labels, queries, 3))[0]
    torch.testing.assert_close(logits[:, 1], -(shifted - means[1]).square().sum(1), **SAME)


def test_training_learns_the_mean_feature_that_centres_features():
    strategies = []
    for made in (LaplacianShot, SimpleShot):
        torch.manual_seed(0)
        strategies.append(made(MLP((1, 8, 8), [5]), classes=24).train())
    sampler = BatchSampler(make_blobs(), size=16)
    for step in range(3):
        for strategy in strategies:
            strategy.loss(sampler.episode(step))
    first, second = (strategy.running_mean for strategy in strategies)
    assert first.abs().max() > 1e-3
    assert torch.equal(first, second)


def test_a_run_that_starts_from_simple_shot_is_centred_by_its_mean(tmp_path):
    data, settings = make_blobs(), {"show_progress": False}
    other = SimpleShot(MLP((1, 8, 8), [5]), classes=24)
    Trainer(steps=3, batch_size=8, **settings).fit(other, data, out=tmp_path / "other")
    strategy = LaplacianShot(MLP((1, 8, 8), [5]), classes=24)
    trainer = Trainer(steps=0, start_from=str(tmp_path / "other"), **settings)
    trainer.fit(strategy, data, out=tmp_path / "run")
    assert torch.equal(load(tmp_path / "run").strategy.running_mean, other.running_mean)


def test_runs_of_before_the_mean_feature_predict_as_they_did(tmp_path):
    """Their files hold neither the mean nor its count of batches, but all of their arguments."""
    strategy = LaplacianShot(MLP((1, 8, 8), [4]), classes=24, neighbors=3, confident=8)
    settings = Trainer(steps=1, batch_size=8, show_progress=False)
    settings.fit(strategy, make_blobs(), out=tmp_path)
    directory = RunDirectory(tmp_path)
    saved = Checkpoint.load(directory.last)
    for part in (saved.model, saved.raw):
        for name in ("running_mean", "batches"):
            part.pop(name, None)
    saved.save(directory.last)
    loaded = load(tmp_path).strategy
    strategy.running_mean.zero_()
    task = EpisodeSampler(make_blobs(), ways=3, shots=2, queries=4, tasks=2).episode(0)
    assert torch.equal(loaded(task), strategy.eval()(task))
    assert not loaded.running_mean.any()


def test_without_smoothness_it_is_the_nearest_prototype(make_episode):
    episode = make_episode((5,), queries=5)
    support, queries = (
        part.inputs / part.inputs.norm(dim=-1, keepdim=True)
        for part in (episode.support, episode.query)
    )
    prototypes = class_means(support, episode.support.targets, 3)
    logits = laplacian(smoothness=0.0, rectify=False)(episode)
    torch.testing.assert_close(logits, similarity(queries, prototypes, "euclidean"), **SAME)


def test_each_step_lowers_the_energy(make_episode):
    """All are neighbours of all, so that w is symmetric, as the paper's bound takes it to be."""
    episode = make_episode((5,), queries=6, tasks=1)
    queries = episode.query.inputs[0] / episode.query.inputs[0].norm(dim=-1, keepdim=True)
    support = episode.support.inputs / episode.support.inputs.norm(dim=-1, keepdim=True)
    prototypes = class_means(support, episode.support.targets, 3)[0]
    smoothness, count = 0.1, len(queries)
    distances = torch.cdist(queries, prototypes).square()
    affinity = 1 - torch.eye(count, dtype=torch.float64)

    def energy(steps):
        strategy = laplacian(smoothness=smoothness, neighbors=count, steps=steps, rectify=False)
        y = strategy(episode)[0].softmax(-1)
        # Of λ/4 Σ w ‖y_q − y_p‖² what depends on two labels; the rest only makes w definite.
        smooth = -smoothness / 2 * (affinity * (y @ y.T)).sum()
        return float((y * distances).sum() + smooth + (y * y.log()).sum())

    energies = [energy(steps) for steps in range(6)]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] - energies[-1] > 1e-3


def test_neighbours_are_the_nearest_others():
    features = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    assert nearest_neighbors(features, 1)[0].tolist() == [
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
    ]
    everyone = 1 - torch.eye(4)
    torch.testing.assert_close(nearest_neighbors(features, 9)[0], everyone)
    assert nearest_neighbors(features[:, :1], 3).tolist() == [[[0]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smoothness": -0.5}, "smoothness is -0.5; it must not be negative"),
        ({"neighbors": -1}, "neighbors is -1; it must be 0 or more"),
        ({"steps": -1}, "LaplacianShot's steps is -1; it must be 0 or more"),
        ({"confident": -1}, "LaplacianShot's confident is -1"),
        ({"confident": -1, "rectify": False}, "confident is -1; it must be 0 or more"),
        ({"sharpness": 0.0}, "sharpness is 0.0; it must be more than 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        laplacian(**arguments)


def test_a_mean_that_is_not_known_is_warned_of():
    def answers(**arguments):
        strategy = laplacian(**arguments).eval()
        points = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0)).double() + 5
        labels = torch.tensor([[0, 0, 0, 1, 1, 1]])
        return strategy(Episode(Examples(points, labels), Examples(points, labels), 2))

    with pytest.warns(UserWarning, match="does not know the mean feature .* confident=8"):
        answers()
    for known in ({"confident": 8}, {"rectify": False}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers(**known)


def test_a_mean_that_is_known_is_not_warned_of():
    strategy = laplacian().eval()
    strategy.running_mean = torch.ones(3, dtype=torch.float64)
    points, labels = torch.randn(1, 4, 3).double(), torch.tensor([[0, 0, 1, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy(Episode(Examples(points, labels), Examples(points, labels), 2))
