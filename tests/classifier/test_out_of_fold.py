"""Each example is predicted by a learner that did not see it."""

import pytest
import torch
from torch import nn

from quickstudy.classifier.out_of_fold import out_of_fold_logits
from quickstudy.episodes import Examples
from quickstudy.strategies import NearestNeighbor, PrototypicalNetwork


def support_of(sizes):
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    torch.manual_seed(0)
    return Examples(torch.randn(1, len(targets), 4), targets[None])


def test_two_examples_a_class_by_hand():
    support = support_of([2, 2])
    found, seen = out_of_fold_logits(PrototypicalNetwork(nn.Flatten()).eval(), support, 2, folds=2)
    assert seen == 2
    x = support.inputs[0]
    partner, others = [1, 0, 3, 2], [(2, 3), (2, 3), (0, 1), (0, 1)]
    for row, own in enumerate([0, 0, 1, 1]):
        # One example of each class is left; which of the other class follows from the draw.
        own_logit = -(x[row] - x[partner[row]]).square().sum()
        torch.testing.assert_close(found[row, own], own_logit)
        other_logits = torch.stack([-(x[row] - x[n]).square().sum() for n in others[row]])
        assert torch.isclose(other_logits, found[row, 1 - own]).any()


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("sizes", [[5, 5, 5], [1, 2, 9], [3, 1, 1], [12, 2, 4]])
def test_no_learner_has_seen_what_it_is_asked(sizes, together):
    """Nearest neighbour would answer every example that it has seen by a distance of 0."""
    support = support_of(sizes)
    found, seen = out_of_fold_logits(
        NearestNeighbor(nn.Flatten()).eval(), support, len(sizes), together=together
    )
    assert seen < sum(sizes)
    alone = torch.tensor([sizes[label] <= together for label in support.targets[0].tolist()])
    assert found[alone].isnan().all()
    assert found[~alone].isfinite().all()
    own = found.gather(1, support.targets[0][:, None])[:, 0]
    assert not (own[~alone].abs() < 1e-4).any()


def test_two_folds_left_out_together_by_hand():
    """Three examples of one class and three of the other, a fold each: one of each is left."""
    support = support_of([3, 3])
    found, seen = out_of_fold_logits(
        PrototypicalNetwork(nn.Flatten()).eval(), support, 2, folds=3, together=2
    )
    assert seen == 2
    x = support.inputs[0]
    for row in range(6):
        same = [n for n in range(6) if n // 3 == row // 3 and n != row]
        logits = torch.stack([-(x[row] - x[n]).square().sum() for n in same])
        assert torch.isclose(logits, found[row, row // 3]).any()


def test_nothing_is_held_out_where_no_class_would_keep_an_example():
    strategy = PrototypicalNetwork(nn.Flatten()).eval()
    found, seen = out_of_fold_logits(strategy, support_of([2, 2]), 2, together=2)
    assert found.isnan().all()
    assert seen == 0


def test_examples_that_are_always_kept_are_seen_by_every_learner():
    support = support_of([2, 2])
    strategy = NearestNeighbor(nn.Flatten()).eval()
    always = Examples(support.inputs[:, :1] + 1e-3, torch.tensor([[1]]))
    found, _ = out_of_fold_logits(strategy, support, 2, always=always)
    assert found[0].argmax() == 1  # a copy of it, under another class, stays


def test_an_example_that_is_always_kept_keeps_its_class_alive():
    support = support_of([1, 2])
    always = Examples(torch.zeros(1, 2, 4), torch.tensor([[0, 1]]))
    strategy = PrototypicalNetwork(nn.Flatten()).eval()
    found, _ = out_of_fold_logits(strategy, support, 2, always=always)
    expected = -support.inputs[0, 0].square().sum()
    torch.testing.assert_close(found[0, 0], expected)


def test_folds_follow_from_the_seed():
    support = support_of([6, 6])
    strategy = PrototypicalNetwork(nn.Flatten()).eval()
    first, again, other = (
        out_of_fold_logits(strategy, support, 2, 3, seed)[0] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
