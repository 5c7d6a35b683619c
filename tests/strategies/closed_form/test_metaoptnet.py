"""MetaOptNet's machine: optimality, another solver, a case solved by hand, its gradient."""

import pytest
import torch
from torch import nn

from quickstudy.strategies import MetaOptNet
from quickstudy.strategies.closed_form import metaoptnet
from quickstudy.strategies.closed_form.metaoptnet import SMOOTHING, crammer_singer, support_vectors

# The interior-point method stops when products of slacks and multipliers are 1e-8 C: what follows
# from them is as exact as that times the number of examples and classes.
SOLVED = {"rtol": 1e-6, "atol": 1e-6}


def problem(examples=9, size=4, ways=3, tasks=2, spread=1.0, seed=0):
    """Features ``[T, N, D]`` of classes that overlap, and classes of unequal numbers."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(ways, (tasks, examples), generator=generator)
    targets[:, :ways] = torch.arange(ways)
    centres = torch.randn(tasks, ways, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(tasks, examples, size, generator=generator, dtype=torch.float64)
    return torch.stack(
        [c[t] for c, t in zip(centres, targets, strict=True)]
    ) + spread * noise, targets


def dual_of(features, targets, ways, price):
    members = nn.functional.one_hot(targets, ways)
    return crammer_singer(features @ features.mT, members, price), members


shapes = pytest.mark.parametrize(
    ("examples", "size", "spread"),
    [(3, 10, 1.0), (9, 4, 1.0), (9, 30, 0.1), (12, 2, 3.0)],
    ids=["one shot", "more examples than numbers", "easy", "hard"],
)
prices = pytest.mark.parametrize("price", [0.1, 1.0, 100.0])


@shapes
@prices
def test_the_conditions_of_the_optimum_hold(examples, size, spread, price):
    features, targets = problem(examples, size, spread=spread)
    alpha, members = dual_of(features, targets, 3, price)
    # Feasible: at most C for the own class and 0 for others, a sum of 0 over the classes.
    slack = price * members - alpha
    assert slack.min() > -1e-9 * price
    torch.testing.assert_close(alpha.sum(2), torch.zeros_like(alpha[..., 0]), rtol=0, atol=1e-9)
    # The gradient of the objective is ν_n where α_nk is free, and at most that where it is bound.
    slope = members - features @ features.mT @ alpha  # [T, N, K]
    shared = slope.amin(2, keepdim=True)
    assert ((slope - shared) * slack).max() < 1e-5 * price


@shapes
@prices
def test_no_better_machine_exists(examples, size, spread, price):
    """Weak duality: the primal's value is at least the dual's, and here they meet."""
    features, targets = problem(examples, size, spread=spread)
    alpha, members = dual_of(features, targets, 3, price)
    w = features.mT @ alpha
    norm = w.square().sum((1, 2)) / 2
    scores = features @ w
    own = (scores * members).sum(2, keepdim=True)
    losses = (1 - members + scores - own).amax(2)  # k = y gives 0
    primal = norm + price * losses.sum(1)
    dual = (members * alpha).sum((1, 2)) - norm
    gap = primal - dual
    assert gap.min() > -1e-9
    assert gap.max() < 1.01 * examples * 3 * SMOOTHING * price  # one μ for each of N K conditions


@prices
def test_it_agrees_with_another_solver(price):
    svm = pytest.importorskip("sklearn.svm")
    features, targets = problem()
    got = support_vectors(features, targets, 3, price)
    for task in range(2):
        other = svm.LinearSVC(
            multi_class="crammer_singer", C=price, fit_intercept=False, tol=1e-9, max_iter=1_000_000
        ).fit(features[task].numpy(), targets[task].numpy())
        expected = torch.from_numpy(other.coef_)
        # The other one stops by changes in its dual, which is less exact.
        torch.testing.assert_close(got[task], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("price", "w"), [(0.1, 0.2), (10.0, 0.5)], ids=["bound", "free"])
def test_two_examples_solved_by_hand(price, w):
    """x = 1 and -1: a margin of 1 needs w_0 - w_1 = 1; with little C both α stop there."""
    features = torch.tensor([[[1.0], [-1.0]]]).double()
    got = support_vectors(features, torch.tensor([[0, 1]]), 2, price)
    torch.testing.assert_close(got, torch.tensor([[[w], [-w]]]).double(), **SOLVED)


def test_logits_are_scaled_products_with_the_machine(make_episode):
    episode = make_episode((5,), shots=[1, 4, 2])
    strategy = MetaOptNet(nn.Flatten(), scale=3.0).double()
    w = support_vectors(episode.support.inputs, episode.support.targets, 3, 0.1)
    expected = strategy.log_scale.exp() * episode.query.inputs @ w.mT
    torch.testing.assert_close(strategy(episode), expected)
    assert strategy.log_scale.exp().item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("examples", "size"), [(3, 6), (6, 3)], ids=["one shot", "more examples than numbers"]
)
@pytest.mark.parametrize("price", [0.1, 5.0])
def test_its_gradient_is_that_of_finite_differences(examples, size, price):
    features, targets = problem(examples, size)
    torch.autograd.gradcheck(
        lambda features: support_vectors(features, targets, 3, price), features.requires_grad_()
    )


def test_it_settles_long_before_the_last_iteration(monkeypatch):
    features, targets = problem(examples=25, size=60, ways=5, tasks=4)
    expected = support_vectors(features, targets, 5, 0.1)
    monkeypatch.setattr(metaoptnet, "ITERATIONS", 25)
    assert torch.equal(support_vectors(features, targets, 5, 0.1), expected)


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_features_of_any_length_are_solved_in_float32(length):
    features, targets = problem(examples=10, size=6)
    got = support_vectors((length * features).float(), targets, 3, 0.1 / length**2)
    expected = support_vectors(features, targets, 3, 0.1 / length**2 * length**2)
    assert got.dtype == torch.float32
    # Scaling x by a and C by 1 / a² scales w by 1 / a.
    torch.testing.assert_close(length * got.double(), expected, rtol=1e-4, atol=1e-5)


def test_equal_examples_of_different_classes_are_no_trouble():
    features = torch.ones(1, 4, 3)
    w = support_vectors(features, torch.tensor([[0, 1, 2, 0]]), 3, 0.1)
    assert w.isfinite().all()
    torch.testing.assert_close(w.sum(1), torch.zeros(1, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["regularization", "scale"])
def test_numbers_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=f"MetaOptNet's {name} is 0; it must be more than 0"):
        MetaOptNet(nn.Flatten(), **{name: 0})
