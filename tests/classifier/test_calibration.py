"""Temperatures against cases with a known answer."""

import math

import pytest
import torch

from quickstudy.classifier.calibration import fit_temperature


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 20.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = temperature * 2 * torch.randn(20_000, 5, generator=generator)
    targets = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]
    # 20,000 draws tell T to about one per cent.
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.03)


def test_one_example_by_hand():
    """Of one example and two classes the derivative by log T is -(z/T) σ(-z/T) + log T / σ² = 0."""
    z = 3.0
    temperature = fit_temperature(torch.tensor([[z, 0.0]]), torch.tensor([0]))
    slope = -(z / temperature) / (1 + math.exp(z / temperature))
    # A right answer asks for a smaller T; the prior holds it.
    assert slope * -1 == pytest.approx(-math.log(temperature) / math.log(2) ** 2, abs=1e-4)


def test_without_examples_the_prior_is_the_answer():
    nothing = torch.full((3, 2), torch.nan)
    assert fit_temperature(nothing, torch.tensor([0, 1, 0]), prior=0.3) == 0.3


def test_rows_of_nan_do_not_count():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.randint(3, (50,))
    more = torch.cat([logits, torch.full((9, 3), torch.nan)])
    labels = torch.cat([targets, torch.zeros(9, dtype=torch.int64)])
    assert fit_temperature(more, labels) == fit_temperature(logits, targets)
