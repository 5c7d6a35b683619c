"""Nearest neighbour on cases solved by hand."""

import pytest
import torch

from quickstudy.episodes import Examples
from quickstudy.strategies import NearestNeighbor

SUPPORT = Examples(torch.tensor([[[0.0], [4.0], [1.0]]]), torch.tensor([[0, 1, 0]]))


def test_logits_are_those_of_the_nearest_of_each_class_over_the_spread():
    strategy = NearestNeighbor()
    query = torch.tensor([[[0.0], [2.5], [4.0]]])
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=2), query)
    # All nine squared distances, each example's to itself among them: 2 (16 + 1 + 9) / 9.
    spread = 52 / 9
    expected = -torch.tensor([[[0.0, 16.0], [1.5**2, 1.5**2], [9.0, 0.0]]]) / spread
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)  # float32 rounding


def test_the_nearest_example_decides_and_not_the_mean():
    support = Examples(torch.tensor([[[0.0], [10.0], [4.0]]]), torch.tensor([[0, 0, 1]]))
    strategy = NearestNeighbor()
    logits = strategy.predict(strategy.adapt(support, ways=2), torch.tensor([[[9.0], [5.0]]]))
    assert logits.argmax(-1).tolist() == [[0, 1]]  # the mean of class 0 is 5


def test_confidence_does_not_depend_on_the_scale_of_the_features(make_episode):
    episode = make_episode((4,))
    strategy = NearestNeighbor()
    larger = Examples(1000 * episode.support.inputs, episode.support.targets)
    expected = strategy(episode)
    got = strategy.predict(strategy.adapt(larger, 3), 1000 * episode.query.inputs)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)  # float64 rounding


def test_cosine_logits_are_the_largest_cosine_of_each_class():
    strategy = NearestNeighbor(distance="cosine")
    inputs = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]])
    support = Examples(inputs, torch.tensor([[0, 1, 1]]))
    query = torch.tensor([[[3.0, 4.0], [-5.0, 0.0]]])
    logits = strategy.predict(strategy.adapt(support, ways=2), query)
    torch.testing.assert_close(logits, torch.tensor([[[0.6, 0.8], [-1.0, 1.0]]]))


def test_raw_inputs_are_flattened(make_episode):
    images = make_episode((2, 3, 4))
    strategy = NearestNeighbor()
    theta = strategy.adapt(images.support, 3)
    assert torch.equal(theta["features"], images.support.inputs.flatten(2))
    assert list(strategy.parameters()) == []


def test_a_class_without_examples_is_never_predicted():
    strategy = NearestNeighbor()
    logits = strategy.predict(strategy.adapt(SUPPORT, ways=3), torch.tensor([[[0.0], [9.0]]]))
    assert logits[..., 2].eq(-torch.inf).all()
    assert logits.softmax(-1)[..., 2].eq(0).all()
    assert logits.softmax(-1).isfinite().all()


@pytest.mark.parametrize("examples", [1, 3])
def test_a_support_without_spread_gives_finite_logits(examples):
    support = Examples(torch.ones(1, examples, 2), torch.zeros(1, examples, dtype=torch.int64))
    strategy = NearestNeighbor()
    logits = strategy.predict(strategy.adapt(support, ways=1), torch.zeros(1, 2, 2))
    assert logits.isfinite().all()
