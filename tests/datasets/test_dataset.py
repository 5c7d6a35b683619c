"""ClassDataset: views of examples by class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.datasets import ClassDataset
from quickstudy.inputs import FeatureInputs, ImageInputs

INPUTS = ImageInputs(size=4, channels=1)


def numbered(sizes, names=None, **more):
    """Images whose pixels are all different, class after class."""
    total = sum(sizes)
    pixels = torch.arange(total * 16, dtype=torch.int64) % 251
    examples = pixels.to(torch.uint8).reshape(total, 1, 4, 4)
    names = names or [f"class{i}" for i in range(len(sizes))]
    return ClassDataset.contiguous(examples, sizes, names, INPUTS, **more)


@st.composite
def fractions(draw):
    weights = draw(st.lists(st.integers(1, 50), min_size=2, max_size=3))
    return [weight / sum(weights) for weight in weights]


@given(
    classes=st.integers(3, 40),
    division=fractions(),
    rotations=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100)
def test_a_split_by_fractions_divides_classes_and_never_a_group(classes, division, rotations, seed):
    dataset = numbered([2] * classes).expand(rotations)
    parts = dataset.split(division, seed=seed)
    groups = [set(part.groups) for part in parts.values()]
    assert all(groups)
    assert sum(map(len, groups)) == classes  # disjoint and complete
    assert sum(part.classes for part in parts.values()) == classes * rotations
    for share, group in zip(division, groups, strict=True):
        # Rounding moves each end of a part by half a class at most, keeping parts non-empty by two.
        assert abs(len(group) - share * classes) <= 3


def test_a_part_that_rounds_to_nothing_still_gets_a_class():
    parts = numbered([1] * 10).split((0.5, 0.02, 0.48))
    assert [part.classes for part in parts.values()] == [5, 1, 4]


def test_a_split_follows_from_its_seed_alone():
    dataset = numbered([1] * 20)
    reordered = dataset.select(range(19, -1, -1))
    first, again = dataset.split(seed=3)["test"], reordered.split(seed=3)["test"]
    assert set(first.class_names) == set(again.class_names)
    assert set(dataset.split(seed=4)["test"].class_names) != set(first.class_names)


def test_published_splits_keep_rotations_together():
    published = {"mine": {"train": ["a", "c"], "test": ["b"]}}
    dataset = numbered([1, 2, 3], names=["a", "b", "c"], published_splits=published).expand(2)
    parts = dataset.split()
    assert parts["train"].class_names == ("a", "a@90", "c", "c@90")
    assert parts["test"].class_names == ("b", "b@90")
    assert parts["test"].sizes.tolist() == [2, 2]
    assert parts["test"].name == "data/test"


@pytest.mark.parametrize(
    ("division", "message"),
    [
        ("other", "no class splits named 'other'; it has: mine"),
        ("mine", "split 'test' of 'mine' has no class"),
        ((0.5, 0.6), "sum to 1"),
        ((1.0,), "two .* or three"),
        ((0.5, 0.0, 0.5), "positive"),
    ],
)
def test_wrong_divisions_are_refused(division, message):
    published = {"mine": {"train": ["class0"], "test": ["gone"]}}
    with pytest.raises(ValueError, match=message):
        numbered([1, 1, 1], published_splits=published).split(division)


def test_too_few_classes_to_split():
    with pytest.raises(ValueError, match="too few to split in 3"):
        numbered([1, 1]).split((0.6, 0.2, 0.2))


def test_gather_reads_the_rows_of_each_class():
    dataset = numbered([3, 1, 2])
    read = dataset.gather(torch.tensor([[0, 2], [1, 0]]), torch.tensor([[2, 1], [0, 0]]))
    assert read.shape == (2, 2, 1, 4, 4)
    rows = torch.tensor([[2, 5], [3, 0]])
    torch.testing.assert_close(read, dataset.examples[rows].float() / 255, rtol=0, atol=0)


def test_gather_turns_images_anti_clockwise():
    dataset = numbered([2, 2])
    turned = dataset.expand(4)
    assert turned.class_names[:5] == ("class0", "class0@90", "class0@180", "class0@270", "class1")
    for number in range(8):
        read = turned.gather(torch.tensor([number]), torch.tensor([1]))[0]
        original = dataset.gather(torch.tensor([number // 4]), torch.tensor([1]))[0]
        assert torch.equal(read, torch.rot90(original, number % 4, dims=(1, 2)))
    # A quarter turn anti-clockwise takes the right upper corner to the left upper one.
    upper_right = dataset.gather(torch.tensor([0]), torch.tensor([0]))[0, 0, 0, 3]
    assert turned.gather(torch.tensor([1]), torch.tensor([0]))[0, 0, 0, 0] == upper_right


def test_gathering_changes_nothing_that_is_stored():
    dataset = numbered([2, 2]).expand(4)
    before = dataset.examples.clone()
    dataset.gather(torch.arange(8), torch.ones(8, dtype=torch.int64)).zero_()
    assert torch.equal(dataset.examples, before)


def test_select_by_name_and_by_number_is_the_same_view():
    dataset = numbered([1, 2, 3]).expand(2)
    by_name = dataset.select(["class2@90", "class0"])
    by_number = dataset.select([5, 0])
    assert by_name.class_names == by_number.class_names == ("class2@90", "class0")
    assert by_name.starts.tolist() == by_number.starts.tolist() == [3, 0]
    assert by_name.rotations is not None
    assert by_name.rotations.tolist() == [1, 0]
    assert by_name.examples is dataset.examples
    assert len(by_name) == 4


@pytest.mark.parametrize(("classes", "message"), [(["no"], "no class 'no'"), ([], "at least one")])
def test_wrong_selections_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        numbered([1, 1]).select(classes)


def test_with_at_least_leaves_small_classes_out():
    assert numbered([1, 5, 3]).with_at_least(3).class_names == ("class1", "class2")


def test_from_arrays_sorts_examples_by_class_and_keeps_their_order():
    examples = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 4, 4)
    dataset = ClassDataset.from_arrays(examples, ["b", "a", "b", "c", "a"], INPUTS)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.sizes.tolist() == [2, 2, 1]
    assert dataset.examples[:, 0, 0, 0].tolist() == [1, 4, 0, 2, 3]


def test_from_arrays_needs_a_label_for_each_example():
    with pytest.raises(ValueError, match="2 examples and 1 labels"):
        ClassDataset.from_arrays(torch.zeros(2, 1, 4, 4), ["a"], INPUTS)


def test_an_empty_class_is_refused_by_name():
    with pytest.raises(ValueError, match="'class1' of data is empty"):
        numbered([1, 0])


def test_only_square_images_can_be_rotated_and_only_once():
    features = ClassDataset.contiguous(torch.zeros(2, 7), [1, 1], ["a", "b"], INPUTS)
    with pytest.raises(ValueError, match="Only square images"):
        features.expand()
    with pytest.raises(ValueError, match="already has rotations"):
        numbered([1]).expand().expand()
    with pytest.raises(ValueError, match="1, 2, 3 or 4"):
        numbered([1]).expand(5)


def test_repr_says_what_the_data_are():
    assert repr(numbered([1, 3])) == "ClassDataset(data: 2 classes, 1 to 3 examples each, 1x4x4)"


def test_a_published_split_divides_what_a_selection_has_left():
    published = {"mine": {"train": ["a", "b"], "test": ["c", "d"]}}
    examples = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    data = ClassDataset.contiguous(
        examples, [3, 1, 4, 2], ["a", "b", "c", "d"], ImageInputs(1, 1), "data", published
    )
    parts = data.with_at_least(3).split("mine")
    assert parts["train"].class_names == ("a",)
    assert parts["test"].class_names == ("c",)


def test_sizes_and_names_must_fit_the_examples():
    examples = torch.zeros(4, 1, 1, 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match="sum to 3, but there are 4"):
        ClassDataset.contiguous(examples, [1, 2], ["a", "b"], ImageInputs(1, 1))
    with pytest.raises(ValueError, match="name of its own"):
        ClassDataset.contiguous(examples, [2, 2], ["a", "a"], ImageInputs(1, 1))


def test_union_of_parts():
    examples = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1)
    data = ClassDataset.contiguous(examples, [2] * 4, list("abcd"), ImageInputs(1, 1), "data")
    first, second = data.select([0, 1]), data.select([3])
    both = ClassDataset.union([first, second], "both")
    assert both.class_names == ("a", "b", "d")
    with pytest.raises(ValueError, match="share classes"):
        ClassDataset.union([first, first], "twice")


def test_one_name_is_one_class_and_not_its_letters():
    data = ClassDataset.contiguous(torch.zeros(3, 2), [1, 1, 1], ["a", "b", "ab"], FeatureInputs(2))
    assert data.select("ab").class_names == ("ab",)


# -- as a data set of torch ---------------------------------------------------------------------


def test_examples_are_counted_class_after_class():
    vectors = torch.arange(12.0).view(4, 3)
    data = ClassDataset.from_arrays(vectors, ["b", "a", "b", "b"], FeatureInputs(3))
    assert [label for _, label in data] == [0, 1, 1, 1]
    assert torch.equal(data[0][0], vectors[1])
    assert torch.equal(data[-1][0], vectors[3])
    inputs, labels = data[1:3]
    assert torch.equal(inputs, vectors[[0, 2]])
    assert labels.tolist() == [1, 1]
    assert torch.equal(data[[3, 0]][0], vectors[[3, 1]])
    assert data[np.int64(2)][1] == 1
    for wrong in (4, -5, [0, 4]):
        with pytest.raises(IndexError, match="4 examples, so there is no example"):
            data[wrong]
    with pytest.raises(TypeError):
        data["first"]
    batches = list(torch.utils.data.DataLoader(data, batch_size=3))
    assert [len(labels) for _, labels in batches] == [3, 1]


def test_an_example_of_a_selection_is_rotated_with_its_class():
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    data = ClassDataset.contiguous(image, [1], ["a"], ImageInputs(2, 1)).expand(4).select([2])
    expected = torch.rot90(image[0], 2, dims=(-2, -1)).float() / 255
    torch.testing.assert_close(data[0][0], expected)
    with pytest.warns(DeprecationWarning, match="ClassDataset.turns is now called rotations"):
        assert data.turns.tolist() == [2]
