"""Simple CNAPS's classifier against its equations, written out in loops."""

import pytest
import torch
from torch import nn

from quickstudy.episodes import Examples
from quickstudy.strategies import SimpleCNAPS
from quickstudy.strategies.metric import simple_cnaps


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return SimpleCNAPS(nn.Flatten(), **arguments)


def covariance(rows):
    """Of rows ``[n, D]``; zeros for a single one."""
    apart = rows - rows.mean(0)
    return apart.T @ apart / max(1, len(rows) - 1)


def by_the_equations(episode, beta=1.0):
    """Logits with every matrix formed and inverted, task by task, class by class."""
    support, queries = episode.support, episode.query.inputs
    logits = torch.empty(*queries.shape[:2], episode.ways, dtype=queries.dtype)
    for task in range(episode.tasks):
        x, y = support.inputs[task], support.targets[task]
        for k in range(episode.ways):
            own = x[y == k]
            share = len(own) / (len(own) + 1)
            q = share * covariance(own) + (1 - share) * covariance(x)
            inverse = torch.linalg.inv(q + beta * torch.eye(x.shape[1], dtype=x.dtype))
            for i, query in enumerate(queries[task]):
                apart = query - own.mean(0)
                logits[task, i, k] = -0.5 * apart @ inverse @ apart
    return logits


@pytest.mark.parametrize("size", [20, 7, 6, 3], ids="D = {}".format)
@pytest.mark.parametrize("beta", [1.0, 0.05])
def test_logits_are_mahalanobis_distances_of_unequal_shots(make_episode, size, beta):
    """Six examples: fewer than numbers in a feature, as many, and more."""
    episode = make_episode((size,), shots=[1, 3, 2])
    got = plain(regularization=beta)(episode)
    torch.testing.assert_close(got, by_the_equations(episode, beta), rtol=1e-9, atol=1e-9)


def test_few_examples_never_make_a_matrix_of_features(make_episode):
    episode = make_episode((500,), ways=3, shots=[2, 2, 2])
    theta = plain().adapt(episode.support, 3)
    assert theta["whitening"].shape == (2, 3, 6, 500)


def test_both_forms_of_the_inverse_agree(make_episode):
    support = make_episode((8,), shots=[1, 3, 3]).support
    few = simple_cnaps.low_rank_whitening(support.inputs, support.targets, 3, 0.3)
    full = simple_cnaps.full_whitening(support.inputs, support.targets, 3, 0.3)
    eye = torch.eye(8, dtype=torch.float64)
    torch.testing.assert_close((eye - few.mT @ few) / 0.3, full.mT @ full)


def test_one_example_each_shares_the_covariance_of_the_task():
    """S_k = 0 and λ = 1/2: the same Q for every class, and a linear boundary between two."""
    support = Examples(torch.tensor([[[2.0, 0.0], [-2.0, 0.0]]]), torch.tensor([[0, 1]]))
    # S = diag(8, 0), so Q = diag(5, 1); a logit is -((x1 -+ 2)² / 5 + x2²) / 2.
    queries = torch.tensor([[[1.0, 3.0], [0.0, -7.0]]])
    strategy = plain()
    logits = strategy.predict(strategy.adapt(support, 2), queries)
    expected = torch.tensor([[[-(1 / 5 + 9) / 2, -(9 / 5 + 9) / 2], [-24.9, -24.9]]])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)  # float32 rounding


def test_a_class_that_spreads_along_one_axis_reaches_farther_along_it():
    """Both means are equally far from the query; only the first class is long that way."""
    first = [[x - 8.0, 0.0] for x in (-6.0, -2.0, 2.0, 6.0)]
    second = [[8.0, y] for y in (-6.0, -2.0, 2.0, 6.0)]
    support = Examples(torch.tensor([first + second]), torch.tensor([[0] * 4 + [1] * 4]))
    strategy = plain()
    logits = strategy.predict(strategy.adapt(support, 2), torch.zeros(1, 1, 2))
    assert logits[0, 0, 0] > logits[0, 0, 1] / 2


def test_much_regularisation_leaves_euclidean_distance(make_episode):
    episode = make_episode((5,))
    beta = 1e9
    logits = beta * plain(regularization=beta)(episode)
    means = plain().adapt(episode.support, 3)["prototypes"]
    expected = -0.5 * torch.cdist(episode.query.inputs, means).square()
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [9, 3], ids=["few examples", "many examples"])
def test_gradients_through_the_solver_agree_with_finite_differences(make_episode, size):
    episode = make_episode((size,), tasks=1, shots=[1, 3], ways=2, queries=1)

    def logits(support, queries):
        strategy = plain()
        theta = strategy.adapt(Examples(support, episode.support.targets), 2)
        return strategy.predict(theta, queries)

    inputs = [part.inputs.clone().requires_grad_() for part in (episode.support, episode.query)]
    assert torch.autograd.gradcheck(logits, inputs)


def test_half_precision_features_are_solved_in_float32(make_episode):
    episode = make_episode((30,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halves = Examples(episode.support.inputs.bfloat16(), episode.support.targets)
        theta = plain().adapt(halves, 3)
        logits = plain().predict(theta, episode.query.inputs.bfloat16())
    assert logits.dtype == torch.float32
    expected = by_the_equations(episode).float()
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.2)  # inputs of 8 bits


def test_a_single_example_in_all_is_enough():
    strategy = plain()
    support = Examples(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0]]))
    logits = strategy.predict(strategy.adapt(support, 1), torch.tensor([[[2.0, 4.0]]]))
    torch.testing.assert_close(logits, torch.tensor([[[-2.5]]]))


@pytest.mark.parametrize("beta", [0.0, -1.0])
def test_no_regularisation_is_refused(beta):
    with pytest.raises(ValueError, match=f"regularization is {beta}; it must be more than 0"):
        plain(regularization=beta)
