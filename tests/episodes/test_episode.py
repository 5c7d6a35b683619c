"""Examples and episodes: tensors whose first axis is the task."""

import dataclasses

import numpy as np
import pytest
import torch

from quickstudy.episodes import Episode, Examples
from quickstudy.strategies import PrototypicalNetwork


def examples(tasks=3, each=4):
    count = tasks * each
    inputs = torch.arange(count * 2.0).reshape(tasks, each, 2)
    return Examples(inputs, torch.arange(count).reshape(tasks, each) % 2)


@pytest.mark.parametrize("shape", [(3, 5), (2, 4), (12,)])
def test_each_input_needs_a_target(shape):
    with pytest.raises(ValueError, match="one target for each input"):
        Examples(torch.zeros(3, 4, 2), torch.zeros(shape, dtype=torch.int64))


def test_targets_may_be_vectors():
    assert Examples(torch.zeros(3, 4, 2), torch.zeros(3, 4, 5)).tasks == 3


def test_slicing_takes_tasks_of_support_and_query_alike():
    episode = Episode(examples(), examples(each=6), ways=2)
    part = episode[1:]
    assert (part.tasks, part.ways) == (2, 2)
    assert torch.equal(part.support.inputs, episode.support.inputs[1:])
    assert torch.equal(part.support.targets, episode.support.targets[1:])
    assert torch.equal(part.query.inputs, episode.query.inputs[1:])
    assert torch.equal(part.query.targets, episode.query.targets[1:])


def test_to_moves_every_tensor():
    moved = Episode(examples(), examples(each=6), ways=2).to("meta")
    for part in (moved.support, moved.query):
        assert part.inputs.is_meta
        assert part.targets.is_meta
    assert moved.ways == 2


def test_episodes_are_frozen():
    episode = Episode(examples(), examples(), ways=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        episode.ways = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        episode.support.inputs = torch.zeros(1)


# --- turns ---


def shuffled_episode():
    """Two tasks of three ways, 2 shots and 3 queries, each example a number of its own."""
    inputs = torch.arange(30.0).view(2, 15, 1)
    support = torch.tensor([[2, 0, 1, 1, 0, 2], [0, 1, 2, 0, 1, 2]])
    query = torch.tensor([[0, 0, 0, 1, 2, 1, 2, 1, 2], [2, 2, 2, 1, 1, 1, 0, 0, 0]])
    return Episode(Examples(inputs[:, :6], support), Examples(inputs[:, 6:], query), ways=3)


def of_class(examples, label, task=0):
    return set(examples.inputs[task, examples.targets[task] == label, 0].tolist())


def test_the_first_turn_is_the_episode_itself():
    episode = shuffled_episode()
    turned = episode.rotated(4)
    assert turned.tasks == 8
    for part, first in ((episode.support, turned.support), (episode.query, turned.query)):
        assert torch.equal(first.inputs[:2], part.inputs)
        assert torch.equal(first.targets[:2], part.targets)


def test_every_turn_takes_the_next_examples_of_each_class():
    turned = shuffled_episode().rotated(3)
    # Class 0 of the first task: 1 and 4 in the support, 6, 7 and 8 in the query.
    assert of_class(turned.support, 0, task=2) == {6, 7}
    assert of_class(turned.query, 0, task=2) == {8, 1, 4}
    assert of_class(turned.support, 1, task=3) == {24, 25}  # after 16 and 19
    assert of_class(turned.support, 0, task=4) == {8, 1}


def test_turns_keep_examples_and_their_classes():
    episode = shuffled_episode()
    labels = torch.cat([episode.support.targets, episode.query.targets], 1).flatten()
    turned = episode.rotated(5)
    for number in range(10):
        inputs, targets = (
            torch.cat([getattr(part, name)[number] for part in (turned.support, turned.query)])
            for name in ("inputs", "targets")
        )
        found = inputs[:, 0].long()
        assert sorted(found.tolist()) == [15 * (number % 2) + place for place in range(15)]
        assert torch.equal(targets, labels[found])
        assert turned.support.targets[number].bincount().tolist() == [2, 2, 2]


def test_points_of_a_curve_are_one_set():
    points = torch.arange(4.0).view(1, 4, 1)
    episode = Episode(Examples(points[:, :1], points[:, :1]), Examples(*[points[:, 1:]] * 2), 1)
    turned = episode.rotated(4)
    assert turned.support.inputs.flatten().tolist() == [0, 1, 2, 3]
    assert turned.query.targets[3].flatten().tolist() == [0, 1, 2]


def test_classes_of_unequal_size_cannot_take_turns():
    support = Examples(torch.zeros(1, 3, 2), torch.tensor([[0, 0, 1]]))
    query = Examples(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match=r"these have \[2, 1\]"):
        Episode(support, query, 2).rotated(2)


# --- what is checked ---


def numbers(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.bool])
def test_classes_of_other_widths_become_int64(dtype):
    found = Examples(numbers(1, 2, 3), torch.tensor([[0, 1]]).to(dtype)).targets
    assert torch.equal(found, torch.tensor([[0, 1]]))


def test_arrays_become_tensors():
    found = Examples(np.ones((1, 2, 3), np.float32), np.array([[0, 1]], np.uint16))
    assert found.inputs.dtype == torch.float32
    assert found.targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (numbers(1, 2), r"\[T, N, D\]: use targets\[..., None\]. .* use targets.long\(\)"),
        (numbers(1, 2, 1, dtype=torch.int64), r"without a third axis: use targets\[..., 0\]"),
        (numbers(1, 2, 1, dtype=torch.complex64), r"They must be int64 \[T, N\]"),
        (numbers(1, 2, 1, 1), r"They must be int64 \[T, N\]"),
        ([["a", "b"]], "give a tensor"),
    ],
    ids=["numbers", "classes", "complex", "axes", "words"],
)
def test_targets_that_are_neither_classes_nor_numbers_are_refused(targets, said):
    with pytest.raises(ValueError, match=said):
        Examples(numbers(1, 2, 3), targets)


def of(targets, size=3):
    targets = torch.tensor(targets)
    return Examples(torch.zeros(*targets.shape[:2], size), targets)


@pytest.mark.parametrize(
    ("support", "query", "ways", "said"),
    [
        (of([[0, 1]]), of([[0, 2]]), 2, "the query range from 0 to 2; .* from 0 to 1"),
        (of([[-1, 1]]), of([[0, 1]]), 2, "the support range from -1 to 1"),
        (of([[0, 1]]), of([[0], [1]]), 2, "support has 1 tasks and the query 2"),
        (of([[0, 1]]), of([[0, 1]], size=4), 2, r"\[3\] and those of the query \[4\]"),
        (of([[0, 1]]), of([[[0.0]]]), 1, "both must be classes"),
        (of([[[0.0]]]), of([[[0.0]]]), 2, "1 numbers long, but ways is 2"),
        (of([[0, 1]]), of([[0, 1]]), 2.5, "number of ways is 2.5"),
        (numbers(1, 2, 3), of([[0, 1]]), 2, "The support is a Tensor"),
    ],
    ids=["query", "support", "tasks", "shape", "kinds", "length", "ways", "tensor"],
)
def test_parts_of_an_episode_that_do_not_fit_are_refused(support, query, ways, said):
    with pytest.raises(ValueError, match=said):
        Episode(support, query, ways)


def test_targets_of_32_bits_are_taken_or_refused():
    long = Episode(of([[0, 1]]), of([[1, 0]]), 2)
    short = Episode(
        *(Examples(part.inputs, part.targets.int()) for part in (long.support, long.query)), 2
    )
    strategy = PrototypicalNetwork(torch.nn.Identity())
    assert torch.equal(strategy.loss(short)[0], strategy.loss(long)[0])
