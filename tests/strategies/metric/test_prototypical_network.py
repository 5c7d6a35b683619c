"""Prototypical networks on cases solved by hand."""

import pytest
import torch
from torch import nn

from quickstudy.episodes import Examples
from quickstudy.strategies import PrototypicalNetwork

SUPPORT = Examples(
    torch.tensor([[[0.0, 0.0], [3.0, 4.0], [2.0, 2.0], [0.0, 1.0]]]), torch.tensor([[0, 1, 0, 0]])
)
QUERY = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]]])


def plain(**arguments):
    """Raw vectors, so that features are what the case says."""
    return PrototypicalNetwork(nn.Flatten(), **arguments)


def test_prototypes_are_class_means_of_unequal_shots():
    theta = plain().adapt(SUPPORT, ways=2)
    expected = torch.tensor([[[2 / 3, 1.0], [3.0, 4.0]]])
    torch.testing.assert_close(theta, {"prototypes": expected})


def test_euclidean_logits_are_minus_squared_distances():
    strategy = plain()
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=2), QUERY)
    expected = -torch.tensor([[[4 / 9 + 1, 25], [49 / 9 + 9, 0], [1 / 9 + 1, 20]]])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)  # float32 rounding


def test_probabilities_follow_the_equation():
    """One example each, at 0 and at 2: p(class 0 | x) = 1 / (1 + exp(x² − (x − 2)²))."""
    strategy = plain()
    support = Examples(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[0, 1]]))
    x = torch.tensor([[[0.5], [1.0], [1.7]]])
    probabilities = strategy.predict(strategy.adapt(support, ways=2), x).softmax(-1)
    expected = 1 / (1 + (x[0, :, 0] ** 2 - (x[0, :, 0] - 2) ** 2).exp())
    torch.testing.assert_close(probabilities[0, :, 0], expected)
    assert float(probabilities[0, 1, 0]) == pytest.approx(0.5)


def test_cosine_logits_are_scaled_cosines():
    strategy = plain(distance="cosine", scale=10.0)
    support = Examples(torch.tensor([[[2.0, 0.0], [0.0, 0.3]]]), torch.tensor([[0, 1]]))
    query = torch.tensor([[[3.0, 4.0], [-1.0, 0.0]]])
    logits = strategy.predict(strategy.adapt(support, ways=2), query)
    torch.testing.assert_close(logits, torch.tensor([[[6.0, 8.0], [-10.0, 0.0]]]))


def test_scale_multiplies_euclidean_logits_too():
    theta = plain().adapt(SUPPORT, ways=2)
    torch.testing.assert_close(
        plain(scale=0.5).predict(theta, QUERY), 0.5 * plain().predict(theta, QUERY)
    )


def test_any_number_of_ways(make_episode):
    for ways in (1, 2, 7):
        episode = make_episode((4,), ways=ways)
        logits = plain()(episode)
        assert logits.shape == (2, 2 * ways, ways)
        assert logits.isfinite().all()


def test_the_loss_is_the_cross_entropy_of_the_query(make_episode):
    episode = make_episode((4,))
    strategy = plain()
    log_probabilities = strategy(episode).log_softmax(-1)
    correct = log_probabilities.gather(2, episode.query.targets[:, :, None])
    torch.testing.assert_close(strategy.loss(episode)[0], -correct.mean())
