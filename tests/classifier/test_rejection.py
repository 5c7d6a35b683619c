"""How surely an input is of a known class."""

import pytest
import torch

from quickstudy.classifier.rejection import KnownScore


def test_three_examples_by_hand():
    features = torch.tensor([[0.0], [2.0], [10.0]])
    known = KnownScore.fitted(features, torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(known.means, torch.tensor([[1.0], [10.0]]))
    # The others' mean is 2 away; times (1 + 1/2) / (1 + 1/1) for one example more.
    torch.testing.assert_close(known.of_known, torch.tensor([-3.0, -3.0]))
    torch.testing.assert_close(
        known.scores(torch.tensor([[1.0], [7.0]])), torch.tensor([0.0, -9.0])
    )


def test_the_share_of_known_inputs_that_stay():
    torch.manual_seed(0)
    means = 8 * torch.randn(10, 16)
    targets = torch.arange(10).repeat(20)
    known = KnownScore.fitted(means[targets] + torch.randn(200, 16), targets, 10)
    new = torch.arange(10).repeat(200)
    scores = known.scores(means[new] + torch.randn(2000, 16))
    for share in (0.5, 0.9, 0.95):
        kept = (scores >= known.threshold(share)).float().mean()
        # The quantile of 200 scores has a standard error of 3.5 points at most.
        assert float(kept) == pytest.approx(share, abs=0.08)
    strangers = 8 * torch.randn(500, 16)
    assert (known.scores(strangers) < known.threshold()).float().mean() > 0.9


def test_two_scores_by_hand():
    known = KnownScore(torch.zeros(1, 1), -torch.tensor([2.0, 0.0]).exp())
    # Logarithms 2 and 0: mean 1, standard deviation √2; one more has √2 √(1 + 1/2) = 1.7321 to it.
    # Student's t with one degree of freedom is 3.0777 at 90 %: exp(1 + 3.0777 · 1.7321).
    assert known.threshold(0.9) == pytest.approx(-561.6, rel=1e-3)
    # A third of inputs lies below the lowest of two scores.
    assert known.threshold(0.6) == pytest.approx(-torch.tensor(2.0).exp().item())
    assert KnownScore(torch.zeros(1, 1), torch.tensor([-1.0])).threshold() == -float("inf")


@pytest.mark.parametrize(("ways", "shots"), [(2, 3), (2, 5), (5, 2)])
def test_few_examples_keep_the_share_too(ways, shots):
    """Over many draws: the lowest of n scores alone would lose 1 / (n + 1) of the known."""
    kept = []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        means = 4 * torch.randn(ways, 8, generator=generator)
        targets = torch.arange(ways).repeat_interleave(shots)
        noise = torch.randn(len(targets), 8, generator=generator)
        known = KnownScore.fitted(means[targets] + noise, targets, ways)
        new = torch.arange(ways).repeat(100)
        scores = known.scores(means[new] + torch.randn(len(new), 8, generator=generator))
        kept.append((scores >= known.threshold()).float().mean())
    assert 0.93 < float(torch.stack(kept).mean()) < 0.995


def test_examples_that_are_unlike_inputs_do_not_set_the_threshold():
    features = torch.tensor([[0.0], [2.0], [30.0]])
    like = torch.tensor([True, True, False])
    known = KnownScore.fitted(features, torch.tensor([0, 0, 0]), 1, like)
    assert len(known.of_known) == 2


def test_state_and_refusals():
    known = KnownScore.fitted(torch.eye(2), torch.tensor([0, 1]), 2)
    again = KnownScore.from_state(known.state())
    assert torch.equal(again.means, known.means)
    with pytest.raises(ValueError, match="at least two"):
        known.threshold()
    with pytest.raises(ValueError, match="between 0 and 1"):
        KnownScore.fitted(torch.ones(2, 1), torch.tensor([0, 0]), 1).threshold(95)
