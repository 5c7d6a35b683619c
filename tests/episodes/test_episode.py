"""Examples and episodes: tensors whose first axis is the task."""

import dataclasses

import pytest
import torch

from quickstudy.episodes import Episode, Examples


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
