"""Feature map reconstruction against its equations, written out in loops."""

import math

import pytest
import torch
from torch import nn

from quickstudy.encoders import Conv4
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import FRN
from quickstudy.strategies.metric import frn


class Maps(nn.Module):
    """Inputs that are maps already."""

    def maps(self, x):
        return x

    def forward(self, x):
        return x.flatten(1)


def plain(alpha=0.0, beta=0.0, gamma=1.0, **arguments):
    strategy = FRN(Maps(), **arguments).double()
    with torch.no_grad():
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            getattr(strategy, name).fill_(value)
    return strategy


def rows(maps):
    """The places ``[n r, d]`` of maps ``[n, d, H, W]``, one by one."""
    _, _, height, width = maps.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    return torch.stack([each[:, i, j] for each in maps for i, j in places])


def by_the_equations(episode, alpha=0.0, beta=0.0, gamma=1.0):
    """Logits by ridge regression in the first form, task by task, class by class."""
    support, queries = episode.support, episode.query.inputs
    channels, places = queries.shape[2], queries[0, 0, 0].numel()
    logits = torch.empty(*queries.shape[:2], episode.ways, dtype=queries.dtype)
    for task in range(episode.tasks):
        for k in range(episode.ways):
            own = support.inputs[task][support.targets[task] == k]
            x = rows(own)
            penalty = len(own) * places / channels * math.exp(alpha)
            system = x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype)
            for i, query in enumerate(queries[task]):
                q = rows(query[None])
                w = q @ x.T @ torch.linalg.inv(system)
                made = math.exp(beta) * w @ x
                logits[task, i, k] = -gamma * (q - made).square().sum() / places
    return logits


@pytest.mark.parametrize("shape", [(40, 2, 3), (18, 2, 3), (4, 2, 3), (7, 1, 1)], ids=str)
def test_logits_are_reconstruction_errors_of_unequal_shots(make_episode, shape):
    """A class has up to 18 rows of 40, 18, or 4 numbers; and maps of one place."""
    episode = make_episode(shape, shots=[1, 3, 2])
    learned = {"alpha": 0.4, "beta": -0.3, "gamma": 1.7}
    got = plain(**learned)(episode)
    torch.testing.assert_close(got, by_the_equations(episode, **learned), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "keys"), [(9, {"rows", "weights"}), (8, {"map"})])
def test_the_smaller_system_is_solved(make_episode, channels, keys):
    """Two examples of four places are eight rows."""
    theta = plain().adapt(make_episode((channels, 2, 2)).support, 3)
    assert set(theta) == keys


def test_the_weights_are_the_best_ones_for_the_ridge_objective(make_episode):
    """Any small step away from W makes |Q − W X|² + λ |W|² larger."""
    support = make_episode((9, 2, 2), ways=1, shots=[2], tasks=1).support
    x, q = rows(support.inputs[0]), torch.randn(4, 9, dtype=torch.float64)
    theta = plain().adapt(support, 1)
    # W X = (Q Xᵀ) (X Xᵀ + λ I)⁻¹ X, and X has independent rows, so W follows.
    w = q @ theta["rows"][0, 0].T @ theta["weights"][0, 0] @ torch.linalg.pinv(theta["rows"][0, 0])

    def objective(w):
        return (q - w @ theta["rows"][0, 0]).square().sum() + 8 / 9 * w.square().sum()

    assert sorted(map(tuple, x.tolist())) == sorted(map(tuple, theta["rows"][0, 0].tolist()))
    for seed in range(20):
        step = torch.randn(w.shape, generator=torch.Generator().manual_seed(seed)).double()
        assert objective(w + 1e-3 * step) > objective(w)


def test_rows_of_a_class_come_together_and_zeros_fill_up():
    places = torch.arange(1.0, 5.0).view(1, 4, 1, 1)
    got, counts = frn.rows_of_classes(places, torch.tensor([[2, 0, 2, 2]]), ways=3)
    assert got[0, :, :, 0].tolist() == [[2, 0, 0], [0, 0, 0], [1, 3, 4]]
    assert counts.tolist() == [[1, 0, 3]]


def test_a_query_made_of_a_class_s_places_belongs_to_it():
    """The second class has the query's two places in the other order; the first has one of them."""
    a, b, c = torch.eye(3, dtype=torch.float64)
    support = torch.stack([torch.stack([a, c], 1), torch.stack([b, a], 1)])[None, ..., None]
    query = torch.stack([a, b], 1)[None, None, ..., None]
    strategy = plain(alpha=-9.0)
    theta = strategy.adapt(Examples(support, torch.tensor([[0, 1]])), 2)
    logits = strategy.predict(theta, query)
    # The first leaves b, of two places; λ is nearly nothing.
    torch.testing.assert_close(logits[0, 0], torch.tensor([-0.5, 0.0]).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(6, 1, 2), (3, 1, 2)], ids=["few rows", "many rows"])
def test_gradients_through_the_solver_agree_with_finite_differences(make_episode, shape):
    episode = make_episode(shape, tasks=1, shots=[1, 2], ways=2, queries=1)
    strategy = plain(alpha=0.2, beta=0.1, gamma=1.3)

    def logits(support, queries, *_):
        theta = strategy.adapt(Examples(support, episode.support.targets), 2)
        return strategy.predict(theta, queries)

    inputs = [part.inputs.clone().requires_grad_() for part in (episode.support, episode.query)]
    learned = [strategy.alpha, strategy.beta, strategy.gamma]
    assert torch.autograd.gradcheck(logits, [*inputs, *learned])


def test_the_loss_adds_the_likeness_of_different_classes(make_episode):
    episode = make_episode((5, 2, 2), shots=[1, 2, 3])
    added = 0.0
    for task in range(2):
        x, y = episode.support.inputs[task], episode.support.targets[task]
        units = [rows(x[y == k]) for k in range(3)]
        units = [each / each.norm(dim=1, keepdim=True) for each in units]
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        added += sum((units[i] @ units[j].T).square().sum() for i, j in pairs) / (6 * 4) ** 2 / 2
    bare = plain(auxiliary_weight=0.0).loss(episode)[0]
    torch.testing.assert_close(plain(auxiliary_weight=2.0).loss(episode)[0] - bare, 2.0 * added)
    logits = plain()(episode)
    targets = episode.query.targets
    torch.testing.assert_close(bare, nn.functional.cross_entropy(logits.mT, targets))


def test_supports_at_right_angles_are_alike_in_nothing():
    eye = torch.eye(4, dtype=torch.float64).view(1, 4, 1, 4)
    targets = torch.tensor([[0, 0, 1, 1]])
    assert float(frn.class_likeness(eye, targets)) == 0
    assert float(frn.class_likeness(torch.ones_like(eye), targets)) == pytest.approx(0.5)


def test_the_authors_program_has_half_the_auxiliary_sum():
    """It divides all rows by their common norm and counts each pair of classes once."""
    torch.manual_seed(0)
    maps = torch.randn(1, 6, 4, 5, dtype=torch.float64)  # places of six examples
    maps = 3 * maps / maps.norm(dim=-1, keepdim=True)  # equally long
    targets = torch.tensor([[0, 1, 2, 2, 1, 0]])
    support = torch.stack([maps[0, targets[0] == k].flatten(0, 1) for k in range(3)])
    support = support / support.norm()
    pairs = [(0, 1), (0, 2), (1, 2)]
    program = sum((support[i] @ support[j].T).square().sum() for i, j in pairs)
    torch.testing.assert_close(frn.class_likeness(maps, targets), 2 * program)


@pytest.mark.parametrize("channels", [30, 4], ids=["few rows", "many rows"])
def test_half_precision_maps_are_solved_in_float32(make_episode, channels):
    episode = make_episode((channels, 2, 2))
    strategy = plain().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theta = strategy.adapt(
            Examples(episode.support.inputs.bfloat16(), episode.support.targets), 3
        )
        logits = strategy.predict(theta, episode.query.inputs.bfloat16())
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, by_the_equations(episode).float(), rtol=0.02, atol=0.02)


def test_an_encoder_s_maps_are_its_places(make_episode):
    encoder = Conv4((1, 8, 8), channels=3, blocks=2)
    strategy = FRN(encoder, scale=0.5).eval()
    inputs = make_episode((1, 8, 8)).support.inputs.float()
    places = strategy.encode(inputs, {})
    assert places.shape == (2, 6, 4, 3)
    maps = encoder.maps(inputs[1])
    torch.testing.assert_close(places[1, 4, 2], 0.5 * maps[4, :, 1, 0])  # row by row


def test_an_encoder_without_maps_has_one_place(make_episode):
    episode = make_episode((7,))
    got = FRN(nn.Flatten()).double()(episode)
    as_maps = Episode(
        *(Examples(e.inputs[..., None, None], e.targets) for e in (episode.support, episode.query)),
        ways=3,
    )
    torch.testing.assert_close(got, by_the_equations(as_maps))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"auxiliary_weight": -1.0}, "auxiliary_weight is -1.0; it must be 0 or more"),
        ({"scale": 0.0}, "scale is 0.0; it must be more than 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plain(**arguments)
