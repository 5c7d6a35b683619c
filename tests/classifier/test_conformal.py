"""Coverage of prediction sets."""

import pytest
import torch

from quickstudy.classifier.conformal import prediction_sets


def test_four_examples_by_hand():
    held_out = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
    targets = torch.tensor([0, 0, 0, 1])  # their classes got 0.9, 0.8, 0.4 and 0.3
    queries = torch.tensor([[0.65, 0.35], [0.99, 0.01], [0.2, 0.8]])
    # Of 5 scores 40 % may be lower: two of them, so the second lowest is the least.
    found = prediction_sets(queries, held_out, targets, 0.6)
    assert found.tolist() == [[True, False], [True, False], [False, True]]
    # Half way between the second and the third, in log-odds (0.4 to 0.6 and 0.8 to 0.2 make 0.620):
    # 2.5 of 5 scores may be lower.
    half = prediction_sets(torch.tensor([[0.621, 0.619]]), held_out, targets, 0.5)
    assert half.tolist() == [[True, False]]
    # With 4 examples nothing but all classes covers 90 %.
    assert prediction_sets(queries, held_out, targets, 0.9).all()


def test_the_least_probability_goes_on_as_from_fewer_examples_by_hand():
    targets = torch.tensor([0, 0, 0, 1])
    by_fewer = torch.tensor([[0.5, 0.5], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]])
    held_out = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
    # The second lowest went from odds of 1/4 to 2/3; half a step on they are 2/3 √(8/3) = 1.0887.
    queries = torch.tensor([[0.5213, 0.4787], [0.5211, 0.4789]])
    found = prediction_sets(queries, held_out, targets, 0.6, by_fewer, advance=0.5)
    assert found.tolist() == [[True, False], [False, False]]
    # An example that could not be held out with fewer tells nothing of the step: the second lowest
    # An example that could not be held out with fewer tells nothing of the step. Of the other three
    # it goes, at 0.6 between the lowest and the second, from log-odds of -1.7107 to -0.5822.
    by_fewer[0] = torch.nan
    queries = torch.tensor([[0.5397, 0.4603], [0.5395, 0.4605]])
    found = prediction_sets(queries, held_out, targets, 0.6, by_fewer, advance=0.5)
    assert found.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_the_coverage_is_what_was_asked(coverage):
    generator = torch.Generator().manual_seed(0)
    probabilities = (3 * torch.randn(4000, 6, generator=generator)).softmax(1)
    targets = torch.multinomial(probabilities.sqrt(), 1, generator=generator)[:, 0]  # miscalibrated
    sets = prediction_sets(probabilities[2000:], probabilities[:2000], targets[:2000], coverage)
    covered = sets.gather(1, targets[2000:, None]).float().mean()
    # Two samples of 2,000: a standard error of 1.6 points at most.
    assert float(covered) == pytest.approx(coverage, abs=0.035)


def test_refusals():
    probabilities = torch.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction_sets(probabilities, probabilities, torch.tensor([0, 1]), 90)
    with pytest.raises(ValueError, match="at least two"):
        prediction_sets(probabilities, probabilities * torch.nan, torch.tensor([0, 1]), 0.9)
