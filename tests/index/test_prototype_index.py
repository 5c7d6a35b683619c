"""The nearest of many prototypes, against the full matrix of logits."""

import sys
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quickstudy.index.approximate_prototype_index import ApproximatePrototypeIndex
from quickstudy.index.prototype_index import PrototypeIndex
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.strategies.functional import class_means, similarity

each_distance = pytest.mark.parametrize("distance", ["euclidean", "cosine"])


def numbers(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def by_the_full_matrix(prototypes, features, k, distance="euclidean", scale=1.0):
    """Scores, log-probabilities and classes by float64, from all differences; ties by class."""
    q, p = features.double()[:, None], prototypes.double()[None]
    logits = scale * (
        -(q - p).square().sum(2)
        if distance == "euclidean"
        else (nn.functional.normalize(q, dim=2) * nn.functional.normalize(p, dim=2)).sum(2)
    )
    scores, classes = logits.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], logits.log_softmax(1).gather(1, classes)[:, :k], classes[:, :k]


@each_distance
@pytest.mark.parametrize("block_bytes", [1, 3000, 100_000, 2**26])
@pytest.mark.parametrize("k", [1, 7, 60, 101])
def test_any_blocks_give_what_the_full_matrix_gives(distance, block_bytes, k):
    """Among others: blocks of one, a last block that is smaller, k above the block, k = K."""
    prototypes, features = numbers(101, 6), numbers(13, 6, seed=1)
    index = PrototypeIndex(prototypes, distance, scale=3.0, block_bytes=block_bytes)
    scores, log_probabilities, classes = by_the_full_matrix(prototypes, features, k, distance, 3.0)
    found = index.nearest(features, k)
    assert torch.equal(found.classes, classes)
    assert found.scores.dtype == torch.float32
    assert torch.equal(found.scores, scores.float())
    likely = index.log_probabilities(features, k)
    assert torch.equal(likely.classes, classes)
    torch.testing.assert_close(likely.scores, log_probabilities.float())


@each_distance
def test_the_logits_are_those_of_the_prototypical_network(distance):
    prototypes, features = numbers(300, 16), numbers(20, 16, seed=1)
    network = PrototypicalNetwork(nn.Identity(), distance, scale=5.0)
    logits = network.predict_features({"prototypes": prototypes[None]}, features[None])[0]
    scores, classes = PrototypeIndex(prototypes, distance, scale=5.0).nearest(features, 4)
    torch.testing.assert_close(scores, logits.gather(1, classes), rtol=1e-5, atol=1e-4)  # float32
    assert torch.equal(classes[:, 0], logits.argmax(1))


@each_distance
@given(
    prototypes=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=1, max_size=60),
    features=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=1, max_size=5),
    block_bytes=st.sampled_from([1, 400, 2**20]),
    data=st.data(),
)
@settings(max_examples=60)
def test_of_equals_the_lower_class_comes_first(distance, prototypes, features, block_bytes, data):
    """Points on a small grid: many prototypes are the same, and many distances."""
    prototypes, features = torch.tensor(prototypes).float(), torch.tensor(features).float()
    k = data.draw(st.integers(1, len(prototypes)))
    index = PrototypeIndex(prototypes, distance, block_bytes=block_bytes)
    found = index.nearest(features, k)
    assert torch.equal(found.classes, by_the_full_matrix(prototypes, features, k, distance)[2])


@each_distance
def test_more_equals_than_candidates(distance):
    """Copies of few prototypes, spread over all blocks, where matrix products round differently."""
    kinds = numbers(5, 37)
    prototypes = kinds[torch.arange(3001) % 5]
    index = PrototypeIndex(prototypes, distance)
    found = index.nearest(kinds + 0.01 * numbers(5, 37, seed=1), k=30)
    assert torch.equal(found.classes, torch.arange(5)[:, None] + 5 * torch.arange(30))
    assert (found.scores == found.scores[:, :1]).all()


@each_distance
@pytest.mark.parametrize("offset", [0.0, 100.0, 3e4])
def test_far_from_the_origin_the_nearest_is_still_float64s(offset, distance):
    """There float32's expanded square is wrong for most queries, as the last line makes sure."""
    prototypes, features = offset + numbers(2000, 32), offset + numbers(50, 32, seed=1)
    index = PrototypeIndex(prototypes, distance, block_bytes=2**20)
    expected = by_the_full_matrix(prototypes, features, 3, distance)
    found = index.nearest(features, 3)
    assert torch.equal(found.classes, expected[2])
    assert torch.equal(found.scores, expected[0].float())
    plain = similarity(features[None], prototypes[None], distance)[0].argmax(1)
    assert (plain == expected[2][:, 0]).float().mean() < 0.5 or offset < 3e4


@each_distance
@pytest.mark.parametrize("size", [1e-21, 1e-12, 1e17])
def test_very_small_and_very_large_numbers(size, distance):
    prototypes, features = size * numbers(500, 8), size * numbers(9, 8, seed=1)
    found = PrototypeIndex(prototypes, distance).nearest(features, 2)
    expected = by_the_full_matrix(prototypes, features, 2, distance)
    assert torch.equal(found.classes, expected[2])


def test_one_far_prototype_and_one_far_query_do_not_disturb_the_others():
    prototypes, features = numbers(800, 8), numbers(9, 8, seed=1)
    prototypes[3], features[4] = 1e6, -1e6
    found = PrototypeIndex(prototypes).nearest(features, 2)
    assert torch.equal(found.classes, by_the_full_matrix(prototypes, features, 2)[2])


@each_distance
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_exact_with_less_precise_products_too(precision, distance, monkeypatch):
    """Where the hardware does not have them, this tests the search with wide bounds only."""
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: precision)
    prototypes, features = numbers(900, 8), numbers(9, 8, seed=1)
    found = PrototypeIndex(prototypes, distance).nearest(features, 2)
    assert torch.equal(found.classes, by_the_full_matrix(prototypes, features, 2, distance)[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_also_under_autocast(dtype):
    prototypes, features = numbers(700, 8).to(dtype), numbers(9, 8, seed=1).to(dtype)
    index = PrototypeIndex(prototypes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = index.nearest(features, 3)
    assert index.prototypes.dtype == found.scores.dtype == torch.float32
    assert torch.equal(found.classes, by_the_full_matrix(prototypes, features, 3)[2])


def test_float64_stays():
    prototypes = 1 + 1e-12 * numbers(700, 8, dtype=torch.float64)
    found = PrototypeIndex(prototypes).nearest(prototypes[:50])
    assert torch.equal(found.classes[:, 0], torch.arange(50))
    assert found.scores.dtype == torch.float64
    assert PrototypeIndex(prototypes.float()).nearest(prototypes).scores.dtype == torch.float64


@each_distance
def test_probabilities_sum_to_one_and_never_exceed_it(distance):
    prototypes = 30 * numbers(3000, 8)
    index = PrototypeIndex(prototypes, distance, block_bytes=2**18)
    every = index.log_probabilities(numbers(4, 8, seed=1), len(prototypes)).scores
    torch.testing.assert_close(every.double().exp().sum(1), torch.ones(4, dtype=torch.float64))
    sure = index.log_probabilities(prototypes[:20]).scores
    assert (sure <= 0).all()
    if distance == "euclidean":
        assert (sure > -1e-6).all()


@each_distance
def test_the_index_of_examples_is_that_of_their_means(distance):
    targets = torch.cat([torch.arange(40), torch.randint(40, (300,))])
    features = 50 + numbers(340, 6)
    index = PrototypeIndex.from_examples(features, targets, distance, block_bytes=2000)
    means = class_means(features[None].double(), targets[None], 40)[0]
    torch.testing.assert_close(index.prototypes, means.float())
    assert torch.equal(index.counts, targets.bincount())
    assert len(index) == 40
    assert index.examples == 340


def test_examples_and_classes_are_added_as_if_they_had_been_there_at_first():
    targets = torch.randint(200, (3000,)).sort().values  # new classes come batch by batch
    targets[::7] = 0  # and an old one gets more examples
    features = numbers(3000, 6, dtype=torch.float64)
    index = PrototypeIndex(features[:0])
    for batch, owners in zip(features.split(99), targets.split(99), strict=True):
        index.add(batch, owners)
    whole = PrototypeIndex.from_examples(features, targets)
    torch.testing.assert_close(index.prototypes, whole.prototypes, rtol=1e-12, atol=1e-12)
    assert torch.equal(index.counts, whole.counts)


def test_given_prototypes_weigh_as_many_examples_as_they_stand_for():
    given_prototypes = torch.tensor([[1.0, 1.0], [5.0, 5.0]])
    index = PrototypeIndex(given_prototypes, counts=torch.tensor([3, 1]))
    index.add(torch.tensor([[5.0, 1.0], [7.0, 5.0], [9.0, 9.0]]), torch.tensor([0, 1, 2]))
    assert torch.equal(index.prototypes, torch.tensor([[2.0, 1.0], [6.0, 5.0], [9.0, 9.0]]))
    assert torch.equal(given_prototypes, torch.tensor([[1.0, 1.0], [5.0, 5.0]]))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that live at once and were made inside."""

    def __init__(self):
        super().__init__()
        self.seen, self.now, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given_before = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, torch.Tensor)
        }
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self.seen and key not in given_before:
                    self.seen.add(key)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.freed, key, storage.nbytes())
        return result

    def freed(self, key, size):
        self.seen.discard(key)
        self.now -= size


def test_live_bytes_are_counted_rightly():
    with LiveBytes() as memory:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second[:10].double()
    assert memory.peak == 8000
    assert memory.now == second.nbytes + third.nbytes


@each_distance
@pytest.mark.parametrize("method", ["nearest", "log_probabilities"])
@pytest.mark.parametrize(
    ("classes", "queries", "k"), [(20_000, 40, 3), (500, 3000, 3), (5000, 1000, 100)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_stays_under_the_bound(classes, queries, k, method, distance, dtype):
    prototypes, features = numbers(classes, 64, dtype=dtype), numbers(queries, 64, seed=1)
    bound = 2**20
    index = PrototypeIndex(prototypes, distance, block_bytes=bound)
    with LiveBytes() as memory:
        found = getattr(index, method)(features, k)
    # Scores and classes take eight bytes each, then the scores are cast. A query's number or
    # normaliser is as small as a result.
    own = queries * (k * (8 + 8 + found.scores.element_size()) + 16)
    assert memory.peak > 0.1 * bound  # it was measured
    assert memory.peak < bound + own


def test_adding_takes_bounded_memory_too():
    features, targets = numbers(20_000, 64), torch.arange(20_000) % 5000
    index = PrototypeIndex(features[:5000], block_bytes=2**20)
    index.add(features[:1], targets[:1])  # copies what was given
    with LiveBytes() as memory:
        index.add(features, targets)
    assert memory.peak < 2**20


def test_nothing_to_ask_is_answered_by_nothing():
    index = PrototypeIndex(numbers(2000, 8))
    for found in (index.nearest(numbers(0, 8), 2), index.log_probabilities(numbers(0, 8), 2)):
        assert found.scores.shape == found.classes.shape == (0, 2)


def test_nothing_of_autograd_is_kept():
    prototypes = numbers(50, 8).requires_grad_()
    index = PrototypeIndex(prototypes)
    index.add(prototypes, torch.arange(50))
    assert not index.nearest(prototypes).scores.requires_grad
    assert not index.prototypes.requires_grad


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e25])
def test_numbers_that_cannot_be_compared_are_refused(wrong):
    index, features = PrototypeIndex(numbers(20, 8)), numbers(5, 8)
    features[2, 3] = wrong
    for call in (
        lambda: index.nearest(features),
        lambda: index.add(features, torch.arange(5)),
        lambda: PrototypeIndex(features),
    ):
        with pytest.raises(ValueError, match="1 features hold NaN, infinity, or numbers too large"):
            call()
    assert index.examples == 20


def test_errors_say_what_to_do():
    prototypes = numbers(20, 8)
    index = PrototypeIndex(prototypes)
    with pytest.raises(ValueError, match="The 21 nearest were asked for, of 20 classes"):
        index.nearest(prototypes, 21)
    with pytest.raises(ValueError, match="The 0 nearest"):
        index.nearest(prototypes, 0)
    with pytest.raises(ValueError, match=r"8 dimensions.*given was \[5, 7\]"):
        index.nearest(numbers(5, 7))
    with pytest.raises(ValueError, match=r"given was \[8\]"):
        index.nearest(prototypes[0])
    with pytest.raises(ValueError, match=r"floating-point numbers; given was torch\.int64"):
        index.nearest(prototypes.long())
    with pytest.raises(ValueError, match="one int64 for each of 20 features"):
        index.add(prototypes, torch.arange(19))
    with pytest.raises(ValueError, match="start at 0; the lowest target is -1"):
        index.add(prototypes, torch.arange(20) - 1)
    with pytest.raises(ValueError, match="floating-point"):
        PrototypeIndex(prototypes.long())
    with pytest.raises(ValueError, match="scale is -1"):
        PrototypeIndex(prototypes, scale=-1)
    with pytest.raises(ValueError, match="choose euclidean or cosine"):
        PrototypeIndex(prototypes, "manhattan")
    with pytest.raises(ValueError, match="block size is 0"):
        PrototypeIndex(prototypes, block_bytes=0)
    with pytest.raises(ValueError, match="20 numbers above 0"):
        PrototypeIndex(prototypes, counts=torch.ones(3))
    index.add(prototypes[:1], torch.tensor([22]))
    with pytest.raises(ValueError, match="2 of 23 classes have no examples yet, class 20 first"):
        index.nearest(prototypes)


# Approximate


def families(classes=4000, dimensions=32):
    """Prototypes in groups of 20, and queries near some of them."""
    prototypes = numbers(classes // 20, dimensions).repeat_interleave(20, dim=0)
    prototypes += 0.6 * numbers(classes, dimensions, seed=1)
    own = torch.arange(0, classes, 13)
    return prototypes, prototypes[own] + 0.6 * numbers(len(own), dimensions, seed=2)


@each_distance
def test_as_many_probes_as_cells_miss_nothing(distance):
    prototypes, features = families()
    index = PrototypeIndex(prototypes, distance, scale=2.0)
    approximate = ApproximatePrototypeIndex(index, cells=30, probes=30)
    for k in (1, 5):
        found, exact = approximate.nearest(features, k), index.nearest(features, k)
        assert torch.equal(found.classes, exact.classes)
        assert torch.equal(found.scores, exact.scores)


@each_distance
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_probes_trade_time_for_recall(distance, offset):
    prototypes, features = families()
    if distance == "euclidean":
        prototypes, features = prototypes + offset, features + offset
    index = PrototypeIndex(prototypes, distance)
    exact = index.nearest(features).classes
    approximate = ApproximatePrototypeIndex(index, probes=1)
    few = (approximate.nearest(features).classes == exact).float().mean()
    approximate.probes = 16
    usual = (approximate.nearest(features).classes == exact).float().mean()
    assert few < usual
    assert usual > 0.98


def test_more_classes_than_the_probed_cells_hold():
    prototypes, features = families()
    index = PrototypeIndex(prototypes)
    approximate = ApproximatePrototypeIndex(index, cells=1000, probes=1)
    found = approximate.nearest(features[:20], k=len(index))
    assert torch.equal(found.classes, index.nearest(features[:20], k=len(index)).classes)


def test_an_approximation_of_what_the_index_was_is_refused():
    index = PrototypeIndex(numbers(100, 8))
    approximate = ApproximatePrototypeIndex(index)
    index.add(numbers(1, 8), torch.tensor([100]))
    with pytest.raises(ValueError, match="make another"):
        approximate.nearest(numbers(3, 8))
    assert len(ApproximatePrototypeIndex(index).nearest(numbers(3, 8)).classes) == 3


def test_errors_of_the_approximation():
    index = PrototypeIndex(numbers(100, 8))
    with pytest.raises(ValueError, match="101 cells were asked for 100 classes"):
        ApproximatePrototypeIndex(index, cells=101)
    with pytest.raises(ValueError, match="0 probes"):
        ApproximatePrototypeIndex(index, probes=0).nearest(numbers(3, 8))
    with pytest.raises(ValueError, match="no classes yet"):
        ApproximatePrototypeIndex(PrototypeIndex(torch.empty(0, 8)))
    with pytest.raises(ValueError, match="The 101 nearest"):
        ApproximatePrototypeIndex(index).nearest(numbers(3, 8), 101)


def test_without_faiss_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"quickstudy\[faiss\]"):
        ApproximatePrototypeIndex(PrototypeIndex(numbers(10, 8)))
