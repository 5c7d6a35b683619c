"""Features: computed once, of the images as they are turned, for the classes of a view."""

import pytest
import torch
from torch import nn

from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.datasets import ClassDataset
from quickstudy.datasets.decoded.features import (
    EXAMPLES_AT_ONCE,
    TooLargeError,
    batches,
    embed_examples,
)
from quickstudy.inputs import ImageInputs

from ...builders import CountingBatches


def pictures(sizes=(5, 3, 4)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(sizes), 1, 4, 4), generator=generator).to(torch.uint8)
    return ClassDataset.contiguous(images, sizes, list("abc"), ImageInputs(4, 1), "pictures")


def test_each_example_has_its_own_features_and_is_encoded_once():
    data, encoder = pictures(), CountingBatches(16, 7)
    features = data.embed(encoder)
    assert sum(encoder.batches) == len(data) == len(features)
    assert features.examples.shape == (12, 7)
    assert features.examples.dtype == torch.float32
    assert not features.examples.requires_grad
    for number, size in enumerate((5, 3, 4)):
        classes, positions = torch.full((size,), number), torch.arange(size)
        expected = encoder(data.gather(classes, positions))
        torch.testing.assert_close(features.gather(classes, positions), expected)


def test_a_view_is_embedded_as_it_is_seen():
    """Of rotated classes in another order: only theirs, and of the turned images."""
    data = pictures().expand(4).select(["c@270", "a", "b@90"], name="some")
    encoder = CountingBatches(16, 7)
    features = data.embed(encoder)
    assert sum(encoder.batches) == 4 + 5 + 3
    assert features.class_names == data.class_names
    assert features.name == "some"
    assert features.sizes.tolist() == [4, 5, 3]
    classes, positions = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[3, 4], [1, 0]])
    read = features.gather(classes, positions)
    assert read.shape == (2, 2, 7)
    expected = encoder(data.gather(classes, positions).flatten(0, 1)).view(2, 2, 7)
    torch.testing.assert_close(read, expected)


def test_features_of_rotations_are_still_divided_together():
    features = pictures().expand(4).embed(nn.Flatten())
    assert features.groups == pictures().expand(4).groups
    parts = features.split((0.5, 0.5))
    groups = [set(part.groups) for part in parts.values()]
    assert not groups[0] & groups[1]
    assert sum(part.classes for part in parts.values()) == 12
    with pytest.raises(ValueError, match="Only square images"):
        features.expand(4)


def test_the_encoder_is_used_as_after_training_and_left_as_it_was():
    encoder = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(16))
    encoder[1].eval()  # a part that someone froze stays frozen, and no other part
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    data = pictures()
    first, again = data.embed(encoder), data.embed(encoder)
    assert torch.equal(first.examples, again.examples)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert [part.training for part in encoder] == [True, False, True]
    assert encoder.training


def test_evaluating_puts_modes_back_after_an_error():
    encoder = nn.Sequential(nn.Dropout(), nn.Dropout().eval())

    with pytest.raises(TypeError), evaluating(encoder):
        encoder[0](None)
    assert [part.training for part in encoder.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_features_that_would_take_too_much_memory_are_refused_after_one_batch():
    count = 2 * EXAMPLES_AT_ONCE
    data = ClassDataset.contiguous(
        torch.zeros(count, 1, 4, 4, dtype=torch.uint8), [count], ["a"], ImageInputs(4, 1)
    )
    encoder, told = CountingBatches(16, 7), []

    def embed(most_bytes):
        return embed_examples(
            encoder,
            data,
            torch.zeros(count, dtype=torch.int64),
            torch.arange(count),
            "cpu",
            most_bytes,
            lambda *counts: told.append(counts),
        )

    with pytest.raises(TooLargeError, match=f"of {count} examples, 7 numbers each, take"):
        embed(count * 7 * 4 - 1)
    assert encoder.batches == [EXAMPLES_AT_ONCE]
    assert embed(count * 7 * 4).features.shape == (count, 7)
    assert told == [(EXAMPLES_AT_ONCE, count), (count, count)]


@pytest.mark.parametrize("examples", [0, 1, 199, EXAMPLES_AT_ONCE, 3 * EXAMPLES_AT_ONCE + 77])
def test_batches_are_of_few_sizes(examples):
    parts = list(batches(examples))
    assert [number for part in parts for number in range(part.start, part.stop)] == list(
        range(examples)
    )
    sizes = [part.stop - part.start for part in parts]
    assert set(sizes) <= {2**power for power in range(EXAMPLES_AT_ONCE.bit_length())}
    rest = sizes[examples // EXAMPLES_AT_ONCE :]
    assert len(set(rest)) == len(rest)
