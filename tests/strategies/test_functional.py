"""The mathematics that strategies share, against loops and torch's own functions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.strategies.functional import class_means, map_tasks, similarity


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
