"""Which inputs to label next."""

import itertools

import torch

from quickstudy.classifier.suggestion import suggest


def left_over(features, support, chosen):
    labelled = torch.cat([support, features[list(chosen)]])
    return torch.cdist(features, labelled).square().min(1).values.sum()


def test_the_first_is_the_best_that_can_be_added():
    torch.manual_seed(0)
    features, support = torch.randn(30, 3), torch.randn(4, 3)
    (first,) = suggest(features, support, 1).tolist()
    best = min(range(30), key=lambda n: float(left_over(features, support, [n])))
    assert first == best


def test_several_are_near_the_best_set():
    torch.manual_seed(0)
    features, support = torch.randn(12, 2), torch.randn(2, 2)
    chosen = suggest(features, support, 3).tolist()
    assert len(set(chosen)) == 3
    start = float(left_over(features, support, []))
    best = min(float(left_over(features, support, c)) for c in itertools.combinations(range(12), 3))
    # Greedy choice gains at least 1 - 1/e of what the best does (Nemhauser, Wolsey, Fisher, 1978).
    gained = start - float(left_over(features, support, chosen))
    assert gained >= 0.63 * (start - best)


def test_a_group_without_a_label_comes_first():
    torch.manual_seed(0)
    near, far = torch.randn(50, 2), torch.randn(10, 2) + 20
    (first,) = suggest(torch.cat([near, far]), near[:3], 1).tolist()
    assert first >= 50


def test_copies_of_labelled_inputs_come_last():
    torch.manual_seed(0)
    support = torch.randn(5, 3)
    features = torch.cat([support, torch.randn(5, 3)])
    assert sorted(suggest(features, support, 10).tolist()) == list(range(10))
    assert set(suggest(features, support, 5).tolist()) == {5, 6, 7, 8, 9}
