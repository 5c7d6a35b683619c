"""PT-MAP against its algorithm written with loops; its transport against its conditions."""

import math

import pytest
import torch
from torch import nn

from quickstudy.strategies import PTMAP
from quickstudy.strategies.transductive.pt_map import powered, sinkhorn

# Both transports stop when a sum is right to about 1e-12; twenty steps multiply that.
SAME = {"rtol": 1e-7, "atol": 1e-9}


def pt_map(**arguments):
    return PTMAP(nn.Flatten(), **arguments).double()


def length_one(x):
    return x / x.norm()


def transported(scores):
    """exp(scores) with rows and columns scaled in turn, not in logarithms."""
    plan = [[math.exp(s) for s in row] for row in scores]
    rows, columns = len(plan), len(plan[0])
    for _ in range(5000):
        for k in range(columns):
            total = sum(row[k] for row in plan)
            for row in plan:
                row[k] *= rows / columns / total
        for row in plan:
            total = sum(row)
            row[:] = [each / total for each in row]
    return plan


def by_loops(support, targets, queries, ways, power, sharpness, step_size, steps):
    """The transport of one task's queries after all steps."""

    def prepared(part):
        part = [length_one((x + 1e-6) ** power) for x in part]
        mean = sum(part) / len(part)
        return [length_one(x - mean) for x in part]

    support, queries = prepared(support), prepared(queries)
    centres = []
    for k in range(ways):
        own = [z for z, y in zip(support, targets, strict=True) if y == k]
        centres.append(sum(own) / len(own))
    for step in range(steps + 1):
        plan = transported(
            [[-sharpness * float((z - c).square().sum()) for c in centres] for z in queries]
        )
        if step == steps:
            return torch.tensor(plan, dtype=torch.float64)
        for k in range(ways):
            own = [z for z, y in zip(support, targets, strict=True) if y == k]
            total = len(own) + sum(row[k] for row in plan)
            mean = sum(own) + sum(row[k] * z for row, z in zip(plan, queries, strict=True))
            centres[k] = centres[k] + step_size * (mean / total - centres[k])
    raise AssertionError


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_predictions_are_those_of_the_algorithm_written_with_loops(make_episode, steps):
    episode = make_episode((5,), shots=[1, 3, 2], queries=3)
    positive = [
        type(part)(part.inputs.abs(), part.targets) for part in (episode.support, episode.query)
    ]
    strategy = pt_map(power=0.4, sharpness=4.0, step_size=0.3, steps=steps)
    logits = strategy.predict(strategy.adapt(positive[0], 3), positive[1].inputs)
    for task in range(2):
        expected = by_loops(
            positive[0].inputs[task], positive[0].targets[task], positive[1].inputs[task],
            3, 0.4, 4.0, 0.3, steps,
        )  # fmt: skip
        torch.testing.assert_close(logits[task].exp(), expected, **SAME)


def test_a_transport_solved_by_hand():
    """M = [[m, 1 − m], [1 − m, m]], whose m² / (1 − m)² scaling does not change."""
    scores = torch.tensor([[[1.0, 0.0], [3.0, 0.5]]], dtype=torch.float64)
    ratio = math.exp((1.0 + 0.5 - 0.0 - 3.0) / 2)
    m = ratio / (1 + ratio)
    plan, _ = sinkhorn(scores, torch.zeros(1, 1, 2, dtype=torch.float64))
    expected = torch.tensor([[[m, 1 - m], [1 - m, m]]], dtype=torch.float64)
    torch.testing.assert_close(plan.exp(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_a_transport_meets_its_conditions(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(4, 40, 5, generator=generator, dtype=torch.float64).to(dtype)
    plan, potentials = sinkhorn(scores, torch.zeros(4, 1, 5, dtype=dtype))
    assert plan.isfinite().all()
    sums = plan.exp().sum(2), plan.exp().sum(1)
    torch.testing.assert_close(sums[0], torch.ones_like(sums[0]), rtol=tolerance, atol=0)
    torch.testing.assert_close(sums[1], torch.full_like(sums[1], 8), rtol=tolerance, atol=0)
    # It is exp(scores) with rows and columns scaled: the rest is the same for all of a row.
    rows = plan - scores - potentials
    torch.testing.assert_close(rows, rows[..., :1].expand_as(rows), rtol=0, atol=100 * tolerance)


def test_a_transport_of_scores_far_apart_is_finite_in_float32():
    scores = torch.tensor([[[0.0, -1e4], [0.0, -2e4], [-1e4, 0.0], [0.0, -3e4]]])
    plan, _ = sinkhorn(scores, torch.zeros(1, 1, 2))
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.exp().sum(2), torch.ones(1, 4))


def test_features_below_zero_keep_their_sign():
    features = torch.tensor([[4.0, 0.0, -9.0]], dtype=torch.float64)
    expected = torch.tensor([[2.0, 1e-3, -3.0]], dtype=torch.float64)
    expected = expected / expected.norm()
    torch.testing.assert_close(powered(features, 0.5), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        powered(features, 1.0), features / features.norm(), rtol=0, atol=1e-6
    )


def test_classes_get_equally_many_queries_in_every_task(make_episode):
    plan = pt_map()(make_episode((5,), queries=4)).exp()
    torch.testing.assert_close(plan.sum(1), torch.full_like(plan.sum(1), 4), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 0.0}, "power is 0.0; it must be more than 0"),
        ({"sharpness": -1.0}, "sharpness is -1.0; it must be more than 0"),
        ({"step_size": 0.0}, "step_size is 0.0; it must be more than 0 and at most 1"),
        ({"step_size": 1.5}, "step_size is 1.5"),
        ({"steps": -1}, "PTMAP's steps is -1; it must be 0 or more"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pt_map(**arguments)
