"""BatchSampler: passes through all examples, a function of (seed, index)."""

import torch

from quickstudy.episodes import BatchSampler


class Numbered:
    """A data set whose examples are their own (class, position)."""

    def __init__(self, sizes):
        self.sizes = torch.tensor(sizes)
        self.class_names = [f"class {i}" for i in range(len(sizes))]

    def gather(self, classes, positions):
        return torch.stack([classes, positions], dim=-1)


SIZES = [3, 1, 5, 4]  # 13 examples


def drawn(sampler, count):
    """The examples of the first ``count`` batches, in the order drawn."""
    return torch.cat([sampler.episode(i).query.inputs.flatten(0, 1) for i in range(count)]).tolist()


def test_each_pass_visits_every_example_once_in_an_order_of_its_own():
    everything = sorted([c, p] for c, size in enumerate(SIZES) for p in range(size))
    seen = drawn(BatchSampler(Numbered(SIZES), size=5), 13)  # 65 examples: five passes
    passes = [seen[start : start + 13] for start in range(0, 65, 13)]
    assert all(sorted(each) == everything for each in passes)
    assert len({str(each) for each in passes}) == 5


def test_targets_are_the_classes_and_there_is_no_support():
    sampler = BatchSampler(Numbered(SIZES), size=6, tasks=2)
    episode = sampler.episode(3)
    assert episode.ways == 4
    assert episode.support.inputs.shape == (2, 0, 2)
    assert episode.query.inputs.shape == (2, 6, 2)
    assert torch.equal(episode.query.targets, episode.query.inputs[..., 0])


def test_a_batch_depends_on_seed_and_index_alone():
    first, second = (BatchSampler(Numbered(SIZES), size=5, seed=4) for _ in range(2))
    drawn(second, 9)
    assert torch.equal(first.episode(6).query.inputs, second.episode(6).query.inputs)
    other = BatchSampler(Numbered(SIZES), size=5, seed=5)
    assert not torch.equal(first.episode(0).query.inputs, other.episode(0).query.inputs)


def test_a_share_is_part_of_the_whole():
    sampler = BatchSampler(Numbered(SIZES), size=3, tasks=4)
    whole = sampler.episode(2)
    share = sampler.episode(2, slice(1, None, 2))
    assert torch.equal(share.query.inputs, whole.query.inputs[1::2])
    assert torch.equal(share.query.targets, whole.query.targets[1::2])


def test_batches_longer_than_a_pass_go_on_with_the_next():
    seen = drawn(BatchSampler(Numbered(SIZES), size=30), 1)
    assert len(seen) == 30
    assert sorted(seen[:13]) == sorted(seen[13:26])
