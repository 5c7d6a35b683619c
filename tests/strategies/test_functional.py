"""The mathematics that strategies share, against loops and torch's own functions."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import MAML, FineTuning
from quickstudy.strategies.functional import call_with, class_means, map_tasks, similarity


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(
    targets=st.lists(
        st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=3
    ).map(torch.tensor)
)
@settings(max_examples=50)
def test_class_means_of_any_shots(targets):
    features = numbers(*targets.shape, 5)
    means = class_means(features, targets, ways=4)
    assert means.shape == (len(targets), 4, 5)
    for task, way in torch.cartesian_prod(torch.arange(len(targets)), torch.arange(4)):
        own = features[task][targets[task] == way]
        expected = own.mean(0) if len(own) else torch.zeros(5, dtype=torch.float64)
        torch.testing.assert_close(means[task, way], expected, rtol=1e-12, atol=1e-12)  # rounding


def test_a_class_without_examples_has_a_mean_of_zeros_and_gradients_stay_finite():
    features = numbers(1, 2, 3).requires_grad_()
    means = class_means(features, torch.tensor([[0, 2]]), ways=3)
    assert torch.equal(means[0, 1], torch.zeros(3, dtype=torch.float64))
    means.square().sum().backward()
    assert features.grad.isfinite().all()


def test_minus_the_squared_distance():
    queries, references = numbers(2, 4, 6), numbers(2, 3, 6, seed=1)
    got = similarity(queries, references, "euclidean")
    torch.testing.assert_close(got, -(torch.cdist(queries, references) ** 2))
    torch.testing.assert_close(
        similarity(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[4.0, -2.0]]]), "euclidean"),
        torch.tensor([[[-25.0]]]),
    )


def test_the_cosine_of_the_angle():
    queries, references = numbers(2, 4, 6), numbers(2, 3, 6, seed=1)
    expected = F.cosine_similarity(queries[:, :, None], references[:, None], dim=-1)
    torch.testing.assert_close(similarity(queries, references, "cosine"), expected)
    scaled = similarity(7 * queries, 0.1 * references, "cosine")
    torch.testing.assert_close(scaled, expected)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_a_zero_vector_gives_finite_numbers_and_gradients(distance):
    queries = torch.zeros(1, 1, 3, dtype=torch.float64, requires_grad=True)
    result = similarity(queries, numbers(1, 2, 3), distance)
    result.sum().backward()
    assert result.isfinite().all()
    assert queries.grad.isfinite().all()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_it_is_computed_in_float32_under_autocast(distance):
    """Far from the origin a distance is a small difference of large numbers."""
    queries = (100 + numbers(1, 4, 16)).float()
    references = (100 + numbers(1, 3, 16, seed=1)).float()
    expected = similarity(queries, references, distance)
    with torch.autocast("cpu", torch.bfloat16):
        assert (queries[0] @ references[0].T).dtype == torch.bfloat16  # autocast is really on
        got = similarity(queries, references, distance)
        of_halves = similarity(queries.bfloat16(), references.bfloat16(), distance)
    assert got.dtype == of_halves.dtype == torch.float32
    assert torch.equal(got, expected)
    exact = similarity(queries.bfloat16().double(), references.bfloat16().double(), distance)
    # Squares are near 160,000, where float32 steps by 1/64; of the distances (near 20) that is 0.1.
    torch.testing.assert_close(of_halves.double(), exact, rtol=0, atol=0.1)


def test_an_unknown_distance_is_refused_by_name():
    with pytest.raises(ValueError, match="distance 'manhattan' is unknown; choose euclidean or"):
        similarity(numbers(1, 2, 3), numbers(1, 2, 3), "manhattan")


def test_map_tasks_stacks_trees_as_vmap_does():
    def function(tree, x):
        return {"sum": tree["a"] + x.sum(), "pair": (x * tree["b"][0], tree["a"])}

    tree = {"a": numbers(3), "b": (numbers(3, 4),)}
    x = numbers(3, 4, seed=1)
    got = map_tasks(function, tree, x)
    expected = torch.func.vmap(function)(tree, x)
    torch.testing.assert_close(got, expected)
    assert got["sum"].shape == (3,)
    assert got["pair"][0].shape == (3, 4)


def test_map_tasks_lets_gradients_through():
    x = numbers(3, 4).requires_grad_()
    map_tasks(lambda row: row.square().sum(), x).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


class Once(nn.Module):
    out_features = 6

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)

    def forward(self, x):
        return self.first(torch.tanh(self.first(x)))


class Twice(Once):
    """The same layer under two names, and the same weight in another layer."""

    def __init__(self):
        super().__init__()
        self.second = self.first
        self.third = nn.Linear(6, 6)
        self.third.weight = self.first.weight
        self.third.bias = self.first.bias

    def forward(self, x):
        return self.third(torch.tanh(self.second(x)))


def test_a_layer_of_two_names_is_called_with_given_weights_and_keeps_its_own():
    torch.manual_seed(0)
    twice, x = Twice(), torch.randn(4, 6)
    before = dict(twice.named_parameters())
    weights = {name: torch.randn_like(each) for name, each in before.items()}
    assert list(weights) == ["first.weight", "first.bias"]
    layer = functools.partial(F.linear, weight=weights["first.weight"], bias=weights["first.bias"])
    assert torch.allclose(call_with(twice, weights, x), layer(torch.tanh(layer(x))))
    assert all(each is before[name] for name, each in twice.named_parameters())


@pytest.mark.parametrize("tasks", [1, 3])
def test_maml_learns_a_layer_of_two_names_as_one(tasks):
    torch.manual_seed(0)
    once, twice = Once().double(), Twice().double()
    twice.load_state_dict(once.state_dict(), strict=False)
    support, query = (
        Examples(
            torch.randn(tasks, 3 * each, 6, dtype=torch.float64),
            torch.arange(3).repeat(each).expand(tasks, -1),
        )
        for each in (2, 3)
    )
    for encoder in (once, twice):
        torch.manual_seed(1)
        MAML(encoder, ways=3, inner_steps=2).double().loss(Episode(support, query, 3))[0].backward()
    assert torch.allclose(once.first.weight.grad, twice.first.weight.grad)
    assert isinstance(twice.first.weight, nn.Parameter)


@pytest.mark.parametrize("strategy", [FineTuning, MAML])
def test_an_encoder_in_float64_is_tuned_on_inputs_in_float32(strategy):
    support = Examples(torch.randn(2, 10, 6), torch.arange(5).repeat(2).expand(2, -1))
    answers = strategy(Once().double()).eval()(Episode(support, support, 5))
    assert answers.dtype == torch.float32
    assert answers.isfinite().all()
