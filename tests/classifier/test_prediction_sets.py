"""Coverage of prediction sets."""

import numpy as np
import pytest

from quickstudy.classifier.prediction_sets import SetThreshold, log_odds

TARGETS = np.array([0, 0, 0, 1])
HELD_OUT = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
"""The true classes got 0.9, 0.8, 0.4 and 0.3."""


def inside(queries, coverage, by_fewer=HELD_OUT, advance=0.0):
    threshold = SetThreshold.fitted(HELD_OUT, by_fewer, TARGETS, advance)
    return (log_odds(np.array(queries)) >= threshold.at(coverage)).tolist()


def test_four_examples_by_hand():
    queries = [[0.65, 0.35], [0.99, 0.01], [0.2, 0.8]]
    # Of 5 scores 40 % may be lower: two of them, so the second lowest is the least.
    assert inside(queries, 0.6) == [[True, False], [True, False], [False, True]]
    # Half way between the second and the third, in log-odds (0.4 to 0.6 and 0.8 to 0.2 make 0.620):
    # 2.5 of 5 scores may be lower.
    assert inside([[0.621, 0.619]], 0.5) == [[True, False]]
    # With 4 examples nothing but all classes covers 90 %.
    assert np.all(inside(queries, 0.9))


def test_the_least_probability_goes_on_as_from_fewer_examples_by_hand():
    by_fewer = np.array([[0.5, 0.5], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]])
    # The second lowest went from odds of 1/4 to 2/3; half a step on they are 2/3 √(8/3) = 1.0887.
    queries = [[0.5213, 0.4787], [0.5211, 0.4789]]
    assert inside(queries, 0.6, by_fewer, 0.5) == [[True, False], [False, False]]
    # An example that could not be held out with fewer tells nothing of the step. Of the other three
    # it goes, at 0.6 between the lowest and the second, from log-odds of -1.7107 to -0.5822.
    by_fewer[0] = np.nan
    queries = [[0.5397, 0.4603], [0.5395, 0.4605]]
    assert inside(queries, 0.6, by_fewer, 0.5) == [[True, False], [False, False]]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_the_coverage_is_what_was_asked(coverage):
    generator = np.random.default_rng(0)
    exponentials = np.exp(3 * generator.standard_normal((4000, 6)))
    p = exponentials / exponentials.sum(1, keepdims=True)
    blurred = np.sqrt(p) / np.sqrt(p).sum(1, keepdims=True)  # so the p are miscalibrated
    targets = np.array([generator.choice(6, p=row) for row in blurred])
    threshold = SetThreshold.fitted(p[:2000], p[:2000], targets[:2000], 0.0)
    sets = log_odds(p[2000:]) >= threshold.at(coverage)
    covered = sets[np.arange(2000), targets[2000:]].mean()
    # Two samples of 2,000: a standard error of 1.6 points at most.
    assert covered == pytest.approx(coverage, abs=0.035)


def test_refusals():
    with pytest.raises(ValueError, match="between 0 and 1"):
        inside([[0.5, 0.5]], 90)
    nothing = np.full((4, 2), np.nan)
    with pytest.raises(ValueError, match="at least two"):
        SetThreshold.fitted(nothing, nothing, TARGETS, 0.0).at(0.9)
