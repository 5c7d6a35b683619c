"""EpisodeSampler: a pure, uniform function of (seed, index)."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.datasets import ClassDataset
from quickstudy.episodes import EpisodeSampler
from quickstudy.episodes.sampler import LONGEST_SHUFFLED, TASKS_AT_ONCE, distinct_integers
from quickstudy.inputs import ImageInputs

# All seeds are fixed, so a chance test always gives the same answer; at this level a right sampler
# had one chance in a thousand to be called wrong when the seeds were chosen.
SIGNIFICANCE = 1e-3


class Numbered:
    """A data set whose examples are their own (class, position)."""

    def __init__(self, sizes):
        self.sizes = torch.tensor(sizes)
        self.class_names = [f"class {i}" for i in range(len(sizes))]

    def gather(self, classes, positions):
        return torch.stack([classes, positions], dim=-1)


def p_value_of_uniform(draws, categories):
    """The probability of counts at least as uneven as these, were all categories equally likely."""
    counts = torch.bincount(draws.flatten(), minlength=categories).double()
    expected = counts.sum() / categories
    assert expected >= 5  # below, chi-square is no good approximation
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((categories - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def test_the_p_value_knows_uniform_from_skewed_counts():
    generator = torch.Generator().manual_seed(0)
    fair = torch.randint(0, 6, (6000,), generator=generator)
    assert p_value_of_uniform(fair, 6) > SIGNIFICANCE
    assert p_value_of_uniform(torch.cat([fair, torch.full((300,), 3)]), 6) < SIGNIFICANCE
    # With 2 degrees of freedom the probability of a larger statistic s is exp(-s / 2).
    counts = torch.tensor([1055, 945, 1000])
    draws = torch.arange(3).repeat_interleave(counts)
    assert p_value_of_uniform(draws, 3) == pytest.approx(np.exp(-(2 * 55**2 / 1000) / 2))


# --- a pure function of (seed, index) ---


def digest(sampler, indices):
    hasher = hashlib.sha256()
    for index in indices:
        episode = sampler.episode(index)
        for part in (episode.support, episode.query):
            hasher.update(part.inputs.contiguous().numpy().tobytes())
            hasher.update(part.targets.contiguous().numpy().tobytes())
    return hasher.hexdigest()


IN_ANOTHER_PROCESS = """
import hashlib, sys, torch
from quickstudy.datasets import ClassDataset
from quickstudy.episodes import EpisodeSampler
from quickstudy.inputs import ImageInputs
torch.manual_seed(12345)
sizes = [9, 14, 8, 20, 11, 30]
pixels = torch.arange(sum(sizes) * 16).remainder(251).to(torch.uint8).reshape(-1, 1, 4, 4)
data = ClassDataset.contiguous(pixels, sizes, list("abcdef"), ImageInputs(size=4, channels=1))
sampler = EpisodeSampler(data, ways=(2, 5), shots=(1, 4), queries=3, tasks=3, seed=2**40 + 7)
hasher = hashlib.sha256()
for index in (1000003, 5, 0):
    episode = sampler.episode(index)
    for part in (episode.support, episode.query):
        hasher.update(part.inputs.contiguous().numpy().tobytes())
        hasher.update(part.targets.contiguous().numpy().tobytes())
print(hasher.hexdigest())
"""


def test_another_process_draws_the_same_episodes():
    there = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], capture_output=True, text=True, check=True
    )
    sizes = [9, 14, 8, 20, 11, 30]
    pixels = torch.arange(sum(sizes) * 16).remainder(251).to(torch.uint8).reshape(-1, 1, 4, 4)
    data = ClassDataset.contiguous(pixels, sizes, list("abcdef"), ImageInputs(size=4, channels=1))
    sampler = EpisodeSampler(data, ways=(2, 5), shots=(1, 4), queries=3, tasks=3, seed=2**40 + 7)
    assert there.stdout.strip() == digest(sampler, (1000003, 5, 0))


def test_the_history_does_not_matter():
    def fresh():
        return EpisodeSampler(Numbered([12] * 9), (2, 6), (1, 3), queries=4, tasks=2, seed=3)

    sampler = fresh()
    forwards = [digest(sampler, [i]) for i in range(6)]
    torch.manual_seed(0)
    np.random.default_rng(0).random()
    backwards = [digest(sampler, [i]) for i in reversed(range(6))]
    assert forwards == backwards[::-1]
    assert forwards == [digest(fresh(), [i]) for i in range(6)]


def test_episodes_and_seeds_differ():
    def digests(seed):
        sampler = EpisodeSampler(Numbered([20] * 30), seed=seed, queries=5)
        return {digest(sampler, [i]) for i in range(20)}

    assert len(digests(0)) == 20
    assert not digests(0) & digests(1)


@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_the_number_of_tasks_in_an_episode_does_not_change_the_tasks(tasks):
    data = Numbered([11, 30, 9, 17, 25, 8, 40])
    alone = EpisodeSampler(data, ways=4, shots=2, queries=3, tasks=1, seed=9)
    together = EpisodeSampler(data, ways=4, shots=2, queries=3, tasks=tasks, seed=9)
    for index in (0, 1, 6):
        batch = together.episode(index)
        for task in range(tasks):
            one, same = alone.episode(index * tasks + task), batch[task : task + 1]
            for a, b in ((one.support, same.support), (one.query, same.query)):
                assert torch.equal(a.inputs, b.inputs)
                assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize(
    "part", [slice(None), slice(1, None, 2), slice(0, 1), slice(3, None, 4), slice(7, None)]
)
def test_a_share_of_the_tasks_equals_that_slice_of_the_whole(part):
    sampler = EpisodeSampler(Numbered([15] * 12), (2, 5), (1, 3), queries=4, tasks=7, seed=1)
    for index in range(4):
        share, whole = sampler.episode(index, part), sampler.episode(index)[part]
        assert share.ways == whole.ways
        assert share.tasks == len(range(7)[part])
        for a, b in ((share.support, whole.support), (share.query, whole.query)):
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.targets, b.targets)


def test_the_episodes_of_a_seed_are_these_for_ever():
    """Published results name a seed; the tasks that it means must never change."""
    sampler = EpisodeSampler(Numbered([20] * 6), ways=3, shots=1, queries=2, seed=7)
    first, far = sampler.indices(0), sampler.indices(123456789)
    assert first.classes.tolist() == [[5, 2, 3]]
    assert first.support.tolist() == [[[8], [5], [15]]]
    assert first.query.tolist() == [[[2, 14], [12, 2], [16, 11]]]
    assert far.classes.tolist() == [[0, 2, 5]]
    assert far.support.tolist() == [[[15], [4], [15]]]
    assert far.query.tolist() == [[[4, 13], [0, 2], [1, 19]]]
    sizes = [30 + 400 * (number % 5) for number in range(1600)]
    sampler = EpisodeSampler(Numbered(sizes), (2, 5), (1, 9), queries=15, tasks=300, seed=2**63)
    hasher = hashlib.sha256()
    for index in (0, 1, 2, 10**9):
        drawn = sampler.indices(index)
        for part in (drawn.classes, drawn.support, drawn.query):
            assert part.dtype == torch.int64
            hasher.update(part.numpy().astype("<i8").tobytes())
    assert hasher.hexdigest() == "9d7bb6f449fb020d429240070741355d49eeeebebb1d78cfc4a99419a4ccc118"


def test_tasks_are_drawn_in_blocks_that_leave_no_trace():
    data = Numbered([11, 30, 9, 17, 25, 8, 40])
    tasks = 2 * TASKS_AT_ONCE + 3
    whole = EpisodeSampler(data, ways=4, queries=3, tasks=tasks, seed=9).indices(1)
    alone = EpisodeSampler(data, ways=4, queries=3, seed=9)
    for task in (0, TASKS_AT_ONCE - 1, TASKS_AT_ONCE, 2 * TASKS_AT_ONCE, tasks - 1):
        one, same = alone.indices(tasks + task), whole[task : task + 1]
        assert torch.equal(one.classes, same.classes)
        assert torch.equal(one.support, same.support)
        assert torch.equal(one.query, same.query)


# --- what a task is ---


@st.composite
def samplers(draw):
    sizes = draw(st.lists(st.integers(2, 25), min_size=1, max_size=12))
    ways_high = draw(st.integers(1, len(sizes)))
    queries = draw(st.integers(1, min(sizes) - 1))
    shots_high = draw(st.integers(1, min(sizes) - queries))
    return EpisodeSampler(
        Numbered(sizes),
        ways=(draw(st.integers(1, ways_high)), ways_high),
        shots=(draw(st.integers(1, shots_high)), shots_high),
        queries=queries,
        tasks=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


@given(sampler=samplers(), index=st.integers(0, 2**40))
@settings(max_examples=150)
def test_every_task_is_well_formed(sampler, index):
    ways, shots = sampler.counts(index)
    assert sampler.ways[0] <= ways <= sampler.ways[1]
    assert sampler.shots[0] <= shots <= sampler.shots[1]
    episode = sampler.episode(index)
    assert episode.ways == ways
    assert episode.support.inputs.shape == (sampler.tasks, ways * shots, 2)
    assert episode.query.inputs.shape == (sampler.tasks, ways * sampler.queries, 2)
    for task in range(sampler.tasks):
        support, query = episode.support.inputs[task], episode.query.inputs[task]
        drawn = torch.cat([support, query]).tolist()
        # All different: support and query are disjoint, and neither has an example twice.
        assert len(set(map(tuple, drawn))) == len(drawn)
        for of_class, position in drawn:
            assert 0 <= position < sampler.dataset.sizes[of_class]
        classes_of = {}
        for part, each in ((episode.support, shots), (episode.query, sampler.queries)):
            targets = part.targets[task]
            assert torch.bincount(targets, minlength=ways).tolist() == [each] * ways
            for (of_class, _), target in zip(part.inputs[task].tolist(), targets, strict=True):
                classes_of.setdefault(int(target), set()).add(of_class)
        # A label is one class, in the support as in the query, and no class has two labels.
        assert all(len(classes) == 1 for classes in classes_of.values())
        assert len(set.union(*classes_of.values())) == ways


def test_a_class_of_just_enough_examples_is_used_up():
    episode = EpisodeSampler(Numbered([5] * 3), ways=3, shots=2, queries=3).episode(0)
    drawn = torch.cat([episode.support.inputs, episode.query.inputs], dim=1)[0]
    assert len({tuple(each) for each in drawn.tolist()}) == 15


def test_classes_are_chosen_uniformly_in_every_place():
    sampler = EpisodeSampler(Numbered([4, 9, 4, 30, 5, 4, 11]), 3, queries=2, tasks=7000, seed=5)
    classes = sampler.indices(0).classes
    for way in range(3):  # each place by itself: tasks are independent, places of a task are not
        assert p_value_of_uniform(classes[:, way], 7) > SIGNIFICANCE
    assert p_value_of_uniform(classes[:, 0] * 7 + classes[:, 1], 49) < SIGNIFICANCE  # distinct
    ordered = classes[:, 0] * 6 + classes[:, 1] - (classes[:, 1] > classes[:, 0]).long()
    assert p_value_of_uniform(ordered, 42) > SIGNIFICANCE


def test_positions_are_chosen_uniformly_in_every_place():
    sizes = [4, 9, 6, 30]
    sampler = EpisodeSampler(Numbered(sizes), ways=3, shots=2, queries=2, tasks=6000, seed=6)
    drawn = sampler.indices(0)
    positions = torch.cat([drawn.support, drawn.query], dim=2)
    for number, size in enumerate(sizes):
        of_class = positions[drawn.classes == number]
        for place in range(4):
            assert p_value_of_uniform(of_class[:, place], size) > SIGNIFICANCE
        pairs = of_class[:, 0] * (size - 1) + of_class[:, 3]
        pairs = pairs - (of_class[:, 3] > of_class[:, 0]).long()
        if size < 30:  # 870 pairs would be too thin
            assert p_value_of_uniform(pairs, size * (size - 1)) > SIGNIFICANCE


def test_variable_ways_and_shots_cover_their_ranges_evenly():
    sampler = EpisodeSampler(Numbered([9] * 6), ways=(2, 5), shots=(1, 3), queries=2, seed=2)
    counts = torch.tensor([sampler.counts(index) for index in range(2400)])
    pairs = (counts[:, 0] - 2) * 3 + counts[:, 1] - 1
    assert set(pairs.tolist()) == set(range(12))
    assert p_value_of_uniform(pairs, 12) > SIGNIFICANCE


def test_the_draw_of_counts_is_independent_of_the_draw_of_classes():
    sampler = EpisodeSampler(Numbered([9] * 3), ways=(1, 3), queries=2, seed=4)
    pairs = torch.tensor(
        [(sampler.counts(i)[0] - 1) * 3 + int(sampler.indices(i).classes[0, 0]) for i in range(900)]
    )
    assert p_value_of_uniform(pairs, 9) > SIGNIFICANCE


def test_episodes_of_different_counts_share_no_random_numbers():
    """Else two tasks would begin with the same class, by the same number, far too often."""
    sampler = EpisodeSampler(Numbered([2] * 1_000_000), ways=(1, 9), queries=1, seed=8)
    first = [int(sampler.indices(index).classes[0, 0]) for index in range(200)]
    # Of 19,900 pairs among a million classes 0.02 agree by chance.
    assert len(set(first)) == 200


# --- unbalanced queries ---


def unbalanced(sizes, **arguments):
    return EpisodeSampler(Numbered(sizes), **arguments, query_balance="dirichlet")


def test_unbalanced_episodes_of_a_seed_are_these_for_ever():
    """Published results name a seed; the tasks that it means must never change."""
    drawn = unbalanced([20] * 6, ways=3, shots=1, queries=2, seed=7).indices(0)
    assert drawn.classes.tolist() == [[5, 2, 3]]
    assert drawn.support.tolist() == [[[8], [5], [15]]]
    assert drawn.query.tolist() == [[[2, 12], [2, 13], [8, 16]]]
    assert drawn.query_ways.tolist() == [[[0, 1], [1, 1], [1, 2]]]
    sizes = [30 + 400 * (number % 5) for number in range(1600)]
    sampler = unbalanced(sizes, ways=(2, 5), shots=(1, 9), queries=15, tasks=300, seed=2**63)
    hasher = hashlib.sha256()
    for index in (0, 1, 10**9):
        drawn = sampler.indices(index)
        for part in (drawn.classes, drawn.support, drawn.query, drawn.query_ways):
            assert part.dtype == torch.int64
            hasher.update(part.numpy().astype("<i8").tobytes())
    assert hasher.hexdigest() == "39eea1f3eb84690d7961a4884bea3ba578ddf4b1ceda7825942cb7388f68ec6c"


@given(sampler=samplers(), index=st.integers(0, 2**40))
@settings(max_examples=150)
def test_every_unbalanced_task_is_well_formed(sampler, index):
    """The sizes leave a class little more than the queries of a balanced task, or nothing."""
    ways, shots = sampler.counts(index)
    uneven = EpisodeSampler(
        sampler.dataset,
        sampler.ways,
        sampler.shots,
        sampler.queries,
        tasks=sampler.tasks,
        seed=sampler.seed,
        query_balance="dirichlet",
    )
    balanced, episode = sampler.episode(index), uneven.episode(index)
    assert torch.equal(episode.support.inputs, balanced.support.inputs)
    assert torch.equal(episode.support.targets, balanced.support.targets)
    assert episode.query.inputs.shape == balanced.query.inputs.shape
    classes = uneven.indices(index).classes
    for task in range(sampler.tasks):
        support, query = episode.support.inputs[task], episode.query.inputs[task]
        drawn = torch.cat([support, query]).tolist()
        assert len(set(map(tuple, drawn))) == len(drawn) == ways * (shots + sampler.queries)
        for of_class, position in drawn:
            assert 0 <= position < sampler.dataset.sizes[of_class]
        of_classes = classes[task, episode.query.targets[task]]
        assert torch.equal(of_classes, query[:, 0])
        for way in range(ways):
            mine = query[episode.query.targets[task] == way]
            theirs = balanced.query.inputs[task][balanced.query.targets[task] == way]
            shared = min(len(mine), len(theirs))
            assert torch.equal(mine[:shared], theirs[:shared])


@pytest.mark.parametrize("tasks", [3, TASKS_AT_ONCE + 2])
def test_unbalanced_tasks_are_the_same_alone_and_beside_others(tasks):
    sizes = [11, 30, 9, 17, 25, 8, 40]
    alone = unbalanced(sizes, ways=4, shots=2, queries=3, tasks=1, seed=9)
    together = unbalanced(sizes, ways=4, shots=2, queries=3, tasks=tasks, seed=9)
    whole = together.indices(1)
    for task in (0, 1, tasks - 1):
        one, same = alone.indices(tasks + task), whole[task : task + 1]
        for name in ("classes", "support", "query", "query_ways"):
            assert torch.equal(getattr(one, name), getattr(same, name)), name
    share = together.episode(1, slice(1, None, 2))
    assert torch.equal(share.query.inputs, together.episode(1)[1::2].query.inputs)


def test_numbers_of_queries_are_those_of_a_dirichlet_distribution():
    ways, total, tasks = 4, 400, 4000
    sampler = unbalanced([1000] * 9, ways=ways, queries=total // ways, tasks=tasks, seed=1)
    query_ways = sampler.indices(0).query_ways.flatten(1)
    counts = torch.nn.functional.one_hot(query_ways, ways).sum(1).double()
    assert torch.equal(counts.sum(1), torch.full((tasks,), float(total), dtype=torch.float64))
    shares = counts / total
    variance = (1 / ways) * (1 - 1 / ways) / (2 * ways + 1)
    error = (variance / tasks) ** 0.5
    assert (shares.mean(0) - 1 / ways).abs().max() < 4 * error
    # Rounding adds a variance of 1 / (12 total²) at most; that of the variance itself is about
    # 2 variance² / tasks for a distribution with tails no longer than these.
    assert (shares.var(0) - variance).abs().max() < 5 * variance * (2 / tasks) ** 0.5
    # A share is Beta(2, 6): below 0.1 with probability 0.14969.
    below = (shares < 0.1).double().mean(0)
    assert (below - 0.14969).abs().max() < 0.02


def test_a_class_that_is_full_leaves_its_queries_to_the_others():
    sampler = unbalanced([4, 100, 4], ways=3, shots=1, queries=3, tasks=200, seed=3)
    drawn = sampler.indices(0)
    of_small = drawn.query_classes.flatten(1) != 1
    assert of_small.sum(1).max() <= 6
    assert (~of_small).sum(1).max() > 3
    assert (drawn.query_classes.flatten(1) == 0).sum(1).max() == 3


def test_an_unknown_balance_is_refused():
    with pytest.raises(ValueError, match="query_balance 'even' is unknown; choose balanced or"):
        EpisodeSampler(Numbered([20] * 5), query_balance="even")


# --- what cannot be ---


def test_more_ways_than_classes_is_refused():
    with pytest.raises(ValueError, match=r"6 ways .* only 5 classes"):
        EpisodeSampler(Numbered([20] * 5), ways=6)
    with pytest.raises(ValueError, match=r"6 ways .* only 5 classes"):
        EpisodeSampler(Numbered([20] * 5), ways=(2, 6))


def test_a_class_that_is_too_small_is_named_with_its_size_and_what_was_asked():
    message = r"'class 2' has 3 examples, but 2 shots \+ 4 queries = 6 .*2 of 4 classes"
    with pytest.raises(ValueError, match=message):
        EpisodeSampler(Numbered([9, 5, 3, 6]), ways=2, shots=2, queries=4)
    with pytest.raises(ValueError, match=message):  # the most shots count
        EpisodeSampler(Numbered([9, 5, 3, 6]), ways=2, shots=(1, 2), queries=4)


@pytest.mark.parametrize("name", ["ways", "shots", "queries", "tasks"])
@pytest.mark.parametrize("count", [0, -1, (3, 2), (0, 2), (1, 2, 3), ()])
def test_bad_counts_are_refused_by_name(name, count):
    with pytest.raises(ValueError, match=f"^{name} is "):
        EpisodeSampler(Numbered([20] * 5), **{"ways": 2, "queries": 2, name: count})


@pytest.mark.parametrize("name", ["queries", "tasks"])
def test_queries_and_tasks_are_no_ranges(name):
    with pytest.raises(ValueError, match=f"^{name} is "):
        EpisodeSampler(Numbered([20] * 5), **{"ways": 2, "queries": 2, name: (1, 3)})


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        EpisodeSampler(Numbered([20] * 5), seed=seed)


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match=r"index -1 is negative"):
        EpisodeSampler(Numbered([20] * 5)).episode(-1)


# --- distinct integers ---


def fisher_yates(uniform, below):
    """The textbook's shuffle on the array itself, stopped after one swap for each number given."""
    array = list(range(below))
    for step, u in enumerate(uniform):
        place = step + int(u * (below - step))
        array[step], array[place] = array[place], array[step]
    return array[: len(uniform)]


@st.composite
def uniform_rows(draw):
    n = draw(st.integers(1, 9))
    below = draw(st.lists(st.integers(n, n + 12), min_size=1, max_size=4))
    # The ends of [0, 1) too: 1 - 2**-53 is the largest number that the sampler ever draws.
    number = st.one_of(st.floats(0, 1 - 2**-53), st.sampled_from([0.0, 0.5, 1 - 2**-53]))
    rows = draw(
        st.lists(st.lists(number, min_size=n, max_size=n), min_size=len(below), max_size=len(below))
    )
    return np.array(rows), np.array(below)


@given(uniform_rows())
@settings(max_examples=300)
def test_distinct_integers_are_a_shuffle_stopped_early(case):
    uniform, below = case
    expected = [fisher_yates(row, limit) for row, limit in zip(uniform, below, strict=True)]
    assert distinct_integers(uniform, below).tolist() == expected


def test_long_ranges_are_shuffled_likewise():
    """So long that the array is not built; its first places are drawn again and again."""
    numbers = np.random.default_rng(0).random((200, 12))
    numbers[::2] *= 12 / LONGEST_SHUFFLED
    below = np.full(200, 2 * LONGEST_SHUFFLED)
    below[:50] = 12
    expected = [fisher_yates(row, limit) for row, limit in zip(numbers, below, strict=True)]
    assert distinct_integers(numbers, below).tolist() == expected


@pytest.mark.parametrize("longest", [12, 2 * LONGEST_SHUFFLED])
def test_distinct_integers_of_too_short_a_range_go_on_in_order(longest):
    numbers = np.random.default_rng(0).random((40, 9))
    below = np.full(40, longest)
    below[::2] = np.arange(20) % 9
    drawn = distinct_integers(numbers, below)
    for row, limit in enumerate(below):
        expected = fisher_yates(numbers[row, :limit], limit)
        assert drawn[row].tolist() == (expected + list(range(limit, 9)))[:9]


def test_distinct_integers_take_any_rows():
    uniform = np.random.default_rng(0).random((2, 3, 4))
    below = np.array([[4, 7, 10**12], [5, 6, 4]])
    drawn = distinct_integers(uniform, below)
    assert drawn.shape == (2, 3, 4)
    for row in np.ndindex(2, 3):
        if below[row] < 100:
            assert drawn[row].tolist() == fisher_yates(uniform[row], below[row])
        assert (drawn[row] < below[row]).all()


@pytest.mark.parametrize(("below", "n"), [(1, 1), (3, 3), (4, 2), (4, 4), (5, 3)])
def test_every_ordered_choice_is_equally_likely(below, n):
    rows = 24000
    uniform = np.random.default_rng(below * 10 + n).random((rows, n))
    drawn = distinct_integers(uniform, np.full(rows, below))
    numbers = {choice: i for i, choice in enumerate(itertools.permutations(range(below), n))}
    codes = torch.tensor([numbers[tuple(row)] for row in drawn.tolist()])
    if below > 1:
        assert p_value_of_uniform(codes, len(numbers)) > SIGNIFICANCE
