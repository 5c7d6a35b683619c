"""BD-CSPN against its equations written with loops, and on a case solved by hand."""

import math

import pytest
import torch
from torch import nn

from quickstudy.episodes import Examples
from quickstudy.strategies import BDCSPN
from quickstudy.strategies.transductive.bd_cspn import aligned, surest

SAME = {"rtol": 1e-9, "atol": 1e-11}  # float64, by other sums


def bd_cspn(**arguments):
    return BDCSPN(nn.Flatten(), **arguments).double()


def cosine(a, b):
    return float(a @ b) / float(a.norm() * b.norm())


def by_loops(support, targets, queries, ways, confident, sharpness, scale):
    """Logits of one task."""
    support = [x / x.norm() for x in support]
    queries = [x / x.norm() for x in queries]
    shift = sum(support) / len(support) - sum(queries) / len(queries)
    queries = [x + shift for x in queries]
    first = []
    for k in range(ways):
        own = [x for x, y in zip(support, targets, strict=True) if y == k]
        first.append(sum(own) / len(own))
    sure = []
    for x in queries:
        scores = [math.exp(cosine(x, c)) for c in first]
        best = max(range(ways), key=lambda k, scores=scores: scores[k])
        sure.append((scores[best] / sum(scores), best))
    mended = []
    for k in range(ways):
        joining = [number for number, (_, best) in enumerate(sure) if best == k]
        joining.sort(key=lambda number: -sure[number][0])
        own = [x for x, y in zip(support, targets, strict=True) if y == k]
        own += [queries[number] for number in joining[:confident]]
        weights = [math.exp(sharpness * cosine(x, first[k])) for x in own]
        mended.append(sum(w * x for w, x in zip(weights, own, strict=True)) / sum(weights))
    return torch.tensor(
        [[scale * cosine(x, c) for c in mended] for x in queries], dtype=torch.float64
    )


@pytest.mark.parametrize("confident", [0, 1, 3, 100])
def test_predictions_are_those_of_the_equations_written_with_loops(make_episode, confident):
    episode = make_episode((5,), shots=[1, 3, 2], queries=4)
    logits = bd_cspn(confident=confident, sharpness=4.0, scale=7.0)(episode)
    for task in range(2):
        expected = by_loops(
            episode.support.inputs[task],
            episode.support.targets[task],
            episode.query.inputs[task],
            3,
            confident,
            4.0,
            7.0,
        )
        torch.testing.assert_close(logits[task], expected, **SAME)


def test_a_case_solved_by_hand():
    support = Examples(
        torch.tensor([[[2.0, 0.0], [0.0, 3.0]]], dtype=torch.float64), torch.tensor([[0, 1]])
    )
    queries = torch.tensor([[[0.6, 0.8], [8.0, 6.0]]], dtype=torch.float64)
    # Means are (½, ½) and (0.7, 0.7), so the queries are shifted to (0.4, 0.6) and (0.6, 0.4).
    strategy = bd_cspn(sharpness=2.0, scale=1.0)
    near, far = 0.6 / math.sqrt(0.52), 0.4 / math.sqrt(0.52)
    one, other = math.exp(2.0), math.exp(2.0 * near)
    mended = [(one + 0.6 * other) / (one + other), 0.4 * other / (one + other)]
    length = math.hypot(*mended)
    same = (0.6 * mended[0] + 0.4 * mended[1]) / (math.sqrt(0.52) * length)
    crossed = (0.4 * mended[0] + 0.6 * mended[1]) / (math.sqrt(0.52) * length)
    assert far < crossed < near < same
    expected = torch.tensor([[[crossed, same], [same, crossed]]], dtype=torch.float64)
    logits = strategy.predict(strategy.adapt(support, 2), queries)
    torch.testing.assert_close(logits, expected, **SAME)


def test_the_shift_brings_the_means_together(make_episode):
    episode = make_episode((5,), queries=7)
    support, queries = aligned(episode.support.inputs, episode.query.inputs + 5)
    torch.testing.assert_close(support.mean(1), queries.mean(1), **SAME)


def test_only_the_surest_queries_of_their_likeliest_class_join():
    cosines = torch.tensor([[[0.9, 0.1], [0.8, 0.7], [0.5, 0.1], [0.2, 0.3]]])
    # Of class 0 the margins 0.8, 0.1, 0.4 rank the first three; the last is alone in class 1.
    assert surest(cosines, 2)[0].tolist() == [[1, 0], [0, 0], [1, 0], [0, 1]]
    assert surest(cosines, 9)[0].tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    assert surest(cosines, 0).sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confident": -1}, "BDCSPN's confident is -1; it must be 0 or more"),
        ({"sharpness": 0.0}, "sharpness is 0.0; it must be more than 0"),
        ({"scale": -1.0}, "scale is -1.0; it must be more than 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bd_cspn(**arguments)
