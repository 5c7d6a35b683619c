"""Coverage of prediction sets."""

import pytest
import torch

from quickstudy.classifier.conformal import prediction_sets


def test_four_examples_by_hand():
    of_true = torch.tensor([0.9, 0.8, 0.4, 0.3])
    queries = torch.tensor([[0.65, 0.35], [0.99, 0.01], [0.2, 0.8]])
    # Of 5 scores 40 % may be lower: two of them, so a class must reach the second lowest.
    found = prediction_sets([queries], [of_true], 0.6)
    assert found.tolist() == [[True, False], [True, False], [False, True]]
    # With 4 examples nothing but all classes covers 90 %.
    assert prediction_sets([queries], [of_true], 0.9).all()


def test_each_part_is_compared_by_its_own_learner():
    """Two learners of one example each; (1 + m) / 3 must exceed 1 - coverage."""
    of_true = [torch.tensor([0.5]), torch.tensor([0.7])]
    query = [torch.tensor([[0.6, 0.4]]), torch.tensor([[0.6, 0.75]])]
    # Class 0 is as probable as the first example's only, class 1 as the second's only.
    assert prediction_sets(query, of_true, 0.6).tolist() == [[True, True]]
    assert prediction_sets(query, of_true, 0.3).tolist() == [[False, False]]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_the_coverage_is_what_was_asked(coverage):
    generator = torch.Generator().manual_seed(0)
    probabilities = (3 * torch.randn(4000, 6, generator=generator)).softmax(1)
    targets = torch.multinomial(probabilities.sqrt(), 1, generator=generator)  # miscalibrated
    of_true = probabilities.gather(1, targets)[:2000, 0].split(400)
    sets = prediction_sets([probabilities[2000:]] * 5, of_true, coverage)
    covered = sets.gather(1, targets[2000:]).float().mean()
    # Two samples of 2,000: a standard error of 1.6 points at most.
    assert float(covered) == pytest.approx(coverage, abs=0.035)


def test_refusals():
    probabilities = torch.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction_sets([probabilities], [torch.ones(2)], 90)
    with pytest.raises(ValueError, match="at least two"):
        prediction_sets([], [], 0.9)
