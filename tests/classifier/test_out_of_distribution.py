"""How surely an input is of a known class."""

import numpy as np
import pytest
from scipy.special import stdtrit

from quickstudy.classifier.out_of_distribution import OutOfDistributionScore, student_quantile


def test_three_examples_by_hand():
    features = np.array([[0.0], [2.0], [10.0]])
    known = OutOfDistributionScore.fitted(features, np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(known.means, [[1.0], [10.0]])
    # The others' mean is 2 away; times (1 + 1/2) / (1 + 1/1) for one example more.
    np.testing.assert_allclose(known.of_known, [-3.0, -3.0])
    np.testing.assert_allclose(known.scores(np.array([[1.0], [7.0]])), [0.0, -9.0])


def test_an_input_like_examples_that_do_not_differ_is_known():
    """However large their numbers are: rounding must not set it apart from them."""
    features = np.repeat(1e4 * np.random.default_rng(0).standard_normal((2, 5)), 3, axis=0)
    known = OutOfDistributionScore.fitted(features, np.repeat([0, 1], 3), 2)
    assert (known.scores(known.means) >= known.threshold(0.5)).all()


def test_the_share_of_known_inputs_that_stay():
    generator = np.random.default_rng(0)
    means = 8 * generator.standard_normal((10, 16))
    targets = np.tile(np.arange(10), 20)
    support = means[targets] + generator.standard_normal((200, 16))
    known = OutOfDistributionScore.fitted(support, targets, 10)
    new = np.tile(np.arange(10), 200)
    scores = known.scores(means[new] + generator.standard_normal((2000, 16)))
    for share in (0.5, 0.9, 0.95):
        kept = (scores >= known.threshold(share)).mean()
        # The quantile of 200 scores has a standard error of 3.5 points at most.
        assert kept == pytest.approx(share, abs=0.08)
    strangers = 8 * generator.standard_normal((500, 16))
    assert (known.scores(strangers) < known.threshold(0.95)).mean() > 0.9


def test_two_scores_by_hand():
    known = OutOfDistributionScore(np.zeros((1, 1)), -np.exp([2.0, 0.0]))
    # Logarithms 2 and 0: mean 1, standard deviation √2; one more has √2 √(1 + 1/2) = 1.7321 to it.
    # Student's t with one degree of freedom is 3.0777 at 90 %: exp(1 + 3.0777 · 1.7321).
    assert known.threshold(0.9) == pytest.approx(-561.6, rel=1e-3)
    # A third of inputs lies below the lowest of two scores.
    assert known.threshold(0.6) == pytest.approx(-np.exp(2.0))
    one = OutOfDistributionScore(np.zeros((1, 1)), np.array([-1.0]))
    assert one.threshold(0.95) == -float("inf")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 18, 499])
@pytest.mark.parametrize("share", [0.6, 0.95, 0.999])
def test_quantiles_of_student(freedom, share):
    assert student_quantile(share, freedom) == pytest.approx(stdtrit(freedom, share), rel=1e-9)


@pytest.mark.parametrize(("ways", "shots"), [(2, 3), (2, 5), (5, 2)])
def test_few_examples_keep_the_share_too(ways, shots):
    """Over many draws: the lowest of n scores alone would lose 1 / (n + 1) of the known."""
    kept = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        means = 4 * generator.standard_normal((ways, 8))
        targets = np.repeat(np.arange(ways), shots)
        support = means[targets] + generator.standard_normal((len(targets), 8))
        known = OutOfDistributionScore.fitted(support, targets, ways)
        new = np.tile(np.arange(ways), 100)
        scores = known.scores(means[new] + generator.standard_normal((len(new), 8)))
        kept.append((scores >= known.threshold(0.95)).mean())
    # The mean of 200 draws has a standard error of 0.8 points.
    assert 0.92 < np.mean(kept) < 0.995


def test_examples_that_are_unlike_inputs_do_not_set_the_threshold():
    like = np.array([True, True, False])
    features = np.array([[0.0], [2.0], [30.0]])
    known = OutOfDistributionScore.fitted(features, np.zeros(3, np.int64), 1, like)
    assert len(known.of_known) == 2


def test_refusals():
    with pytest.raises(ValueError, match="at least two"):
        OutOfDistributionScore.fitted(np.eye(2), np.array([0, 1]), 2).threshold(0.95)
    with pytest.raises(ValueError, match="between 0 and 1"):
        OutOfDistributionScore.fitted(np.ones((2, 1)), np.array([0, 0]), 1).threshold(95)
