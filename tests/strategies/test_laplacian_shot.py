"""LaplacianShot against its updates written with loops, and the energy that they make small."""

import math

import pytest
import torch
from torch import nn

from quickstudy.strategies import LaplacianShot
from quickstudy.strategies.functional import class_means, similarity
from quickstudy.strategies.transductive.bd_cspn import aligned, rectified
from quickstudy.strategies.transductive.laplacian_shot import nearest_neighbors

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


@pytest.mark.parametrize(("neighbors", "steps"), [(0, 5), (2, 1), (3, 20), (50, 4)])
@pytest.mark.parametrize("rectify", [False, True])
def test_predictions_are_those_of_the_updates_written_with_loops(
    make_episode, neighbors, steps, rectify
):
    episode = make_episode((5,), shots=[1, 3, 2], queries=4)
    strategy = laplacian(smoothness=0.8, neighbors=neighbors, steps=steps, rectify=rectify)
    logits = strategy(episode)
    support, queries = (
        part.inputs / part.inputs.norm(dim=-1, keepdim=True)
        for part in (episode.support, episode.query)
    )
    prototypes = class_means(support, episode.support.targets, 3)
    if rectify:  # has tests of its own
        support, queries = aligned(episode.support.inputs, episode.query.inputs)
        members = nn.functional.one_hot(episode.support.targets, 3).double()
        prototypes = rectified(support, members, queries, 8, 10.0)
    for task in range(2):
        expected = by_loops(prototypes[task], queries[task], 0.8, neighbors, steps)
        torch.testing.assert_close(logits[task].softmax(-1), expected, **SAME)


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
        ({"sharpness": 0.0}, "sharpness is 0.0; it must be more than 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        laplacian(**arguments)
