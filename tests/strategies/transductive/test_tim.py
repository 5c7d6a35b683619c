"""TIM against its updates written with loops, and against the gradient of what they minimise."""

import math

import pytest
import torch
from torch import nn

from quickstudy.strategies import TIM

# The same numbers in float64 by other sums, through many steps.
SAME = {"rtol": 1e-7, "atol": 1e-9}


def tim(**arguments):
    return TIM(nn.Flatten(), **arguments).double()


def length_one(x):
    return x / x.norm()


def probabilities(z, weights, temperature):
    scores = [math.exp(-temperature / 2 * float((w - z).square().sum())) for w in weights]
    return [score / sum(scores) for score in scores]


def by_loops(support, targets, queries, ways, steps, temperature, lam, alpha):
    """The class weights of one task after all steps, and the probabilities of its queries."""
    support = [length_one(x) for x in support]
    queries = [length_one(x) for x in queries]
    weights = []
    for k in range(ways):
        own = [z for z, y in zip(support, targets, strict=True) if y == k]
        weights.append(sum(own) / len(own))
    for _ in range(steps):
        of_support = [probabilities(z, weights, temperature) for z in support]
        of_queries = [probabilities(z, weights, temperature) for z in queries]
        labels = []
        for p in of_queries:
            raw = [
                p[k] ** (1 + alpha)
                / math.sqrt(sum(other[k] ** (1 + alpha) for other in of_queries))
                for k in range(ways)
            ]
            labels.append([each / sum(raw) for each in raw])
        moved = []
        for k in range(ways):
            above, below = torch.zeros_like(support[0]), 0.0
            for z, y, p in zip(support, targets, of_support, strict=True):
                c = lam / (1 + alpha)
                above = above + c * ((y == k) * z + p[k] * (weights[k] - z))
                below += c * float(y == k)
            for z, q, p in zip(queries, labels, of_queries, strict=True):
                c = len(support) / len(queries)
                above = above + c * (q[k] * z + p[k] * (weights[k] - z))
                below += c * q[k]
            moved.append(above / below)
        weights = moved
    return weights, [probabilities(z, weights, temperature) for z in queries]


@pytest.mark.parametrize("steps", [0, 1, 12])
def test_predictions_are_those_of_the_updates_written_with_loops(make_episode, steps):
    episode = make_episode((5,), shots=[1, 3, 2], queries=4)
    strategy = tim(steps=steps, temperature=6.0, support_weight=0.3, certainty_weight=0.2)
    logits = strategy(episode)
    for task in range(2):
        support, targets = episode.support.inputs[task], episode.support.targets[task]
        queries = episode.query.inputs[task]
        _, expected = by_loops(support, targets, queries, 3, steps, 6.0, 0.3, 0.2)
        torch.testing.assert_close(
            logits[task].softmax(-1), torch.tensor(expected, dtype=torch.float64), **SAME
        )


def test_a_step_of_the_weights_goes_down_the_slope_of_what_they_share_with_the_labels(make_episode):
    """The update of w_k is a step against the gradient, whose length is |S| / ((1 + α) τ Σ c y)."""
    episode = make_episode((4,), shots=[1, 3, 2], queries=5, tasks=1)
    lam, alpha, temperature = 0.5, 0.3, 3.0
    support, targets = episode.support.inputs[0], episode.support.targets[0]
    queries = episode.query.inputs[0]
    setting = (3, temperature, lam, alpha)
    (weights, of_queries), (moved, _) = (
        by_loops(support, targets, queries, setting[0], steps, *setting[1:]) for steps in (2, 3)
    )
    p = torch.tensor(of_queries, dtype=torch.float64)
    raw = p ** (1 + alpha) / (p ** (1 + alpha)).sum(0).sqrt()
    labels = raw / raw.sum(1, keepdim=True)
    w = torch.stack(weights).requires_grad_()
    z = [torch.stack([length_one(x) for x in part]) for part in (support, queries)]
    log_p = [(-temperature / 2 * torch.cdist(part, w).square()).log_softmax(-1) for part in z]
    objective = (
        -lam * log_p[0][torch.arange(6), targets].mean()
        - (1 + alpha) * (labels * log_p[1]).sum(1).mean()
    )
    (slope,) = torch.autograd.grad(objective, w)
    weight_of = lam / (1 + alpha) * torch.bincount(targets) + 6 / 15 * labels.sum(0)
    length = 6 / ((1 + alpha) * temperature * weight_of)
    torch.testing.assert_close(torch.stack(moved), (w - length[:, None] * slope).detach(), **SAME)


def test_labels_become_more_even_and_surer_than_those_of_the_support_alone(make_episode):
    episode = make_episode((5,), shots=[1, 1, 1], queries=8, tasks=6)

    def information(steps):
        p = tim(steps=steps)(episode).softmax(-1)
        marginal = p.mean(1)
        entropy = -(marginal * marginal.log()).sum(-1)
        return (entropy + (p * (p + 1e-300).log()).sum(-1).mean(1)).mean()

    assert information(50) > information(0)


def test_far_away_features_and_many_steps_stay_finite_in_float32(make_episode):
    episode = make_episode((5,), queries=4)
    strategy = TIM(nn.Flatten(), temperature=500.0, steps=200)
    logits = strategy.predict_features(
        strategy.adapt_features(
            type(episode.support)(1e4 * episode.support.inputs.float(), episode.support.targets), 3
        ),
        1e4 * episode.query.inputs.float(),
    )
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps is -1; it must be 0 or more"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be more than 0"),
        ({"support_weight": 0.0}, "support_weight is 0.0; it must be more than 0"),
        ({"certainty_weight": -0.1}, "certainty_weight is -0.1; it must not be negative"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tim(**arguments)
