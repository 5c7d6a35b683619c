"""Folders of images, one sub-folder a class, and class_splits.json."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.datasets import load_dataset
from quickstudy.inputs import ImageInputs, UnreadableError

INPUTS = ImageInputs(size=6, channels=1)


def grey(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6), value, np.uint8)).save(path)


@pytest.fixture
def animals(tmp_path):
    """Two classes: cats of greys 1 and 2, a dog of grey 3."""
    folder = tmp_path / "animals"
    grey(folder / "cat" / "b.png", 2)
    grey(folder / "cat" / "a.PNG", 1)
    grey(folder / "dog" / "a.png", 3)
    return folder


def greys(dataset):
    assert dataset.examples.shape[1:] == (1, 6, 6)
    values = dataset.examples[:, 0, 0, 0].tolist()
    ends = dataset.starts + dataset.sizes
    return {
        name: values[start:end]
        for name, start, end in zip(
            dataset.class_names, dataset.starts.tolist(), ends.tolist(), strict=True
        )
    }


def test_classes_are_named_for_their_folders(animals):
    dataset = load_dataset(str(animals), inputs=INPUTS)
    assert greys(dataset) == {"cat": [1, 2], "dog": [3]}
    assert dataset.name == "animals"
    assert dataset.inputs == INPUTS
    assert dataset.turns is None
    assert not dataset.published_splits


def test_a_users_own_images_are_by_default_84_pixels_in_colour(animals):
    dataset = load_dataset(animals)
    assert dataset.shape == (3, 84, 84)
    assert dataset.inputs.mean == (0.485, 0.456, 0.406)


def test_rotations_on_request(animals):
    assert load_dataset(animals, inputs=INPUTS, rotations=True).classes == 8


def test_nested_classes_hidden_files_and_other_files(animals):
    grey(animals / "bird" / "owl" / "a.png", 4)
    grey(animals / ".thumbnails" / "a.png", 9)
    grey(animals / "cat" / ".hidden.png", 9)
    (animals / "cat" / "notes.txt").write_text("meow")
    (animals / "README.md").write_text("# My animals\n")
    dataset = load_dataset(animals, inputs=INPUTS)
    assert greys(dataset) == {"bird/owl": [4], "cat": [1, 2], "dog": [3]}


def test_a_changed_folder_is_decoded_again(animals):
    load_dataset(animals, inputs=INPUTS)
    grey(animals / "dog" / "a.png", 33)
    os.utime(animals / "dog" / "a.png", ns=(1, 1))
    grey(animals / "dog" / "b.png", 34)
    assert greys(load_dataset(animals, inputs=INPUTS))["dog"] == [33, 34]


def test_folders_for_train_and_test_make_a_split(tmp_path):
    for part, name, value in (("train", "cat", 1), ("train", "dog", 2), ("val", "owl", 3)):
        grey(tmp_path / part / name / "a.png", value)
    grey(tmp_path / "test" / "eel" / "a.png", 4)
    dataset = load_dataset(tmp_path, inputs=INPUTS)
    assert greys(dataset) == {"cat": [1], "dog": [2], "eel": [4], "owl": [3]}
    parts = dataset.split("folders")
    assert {part: data.class_names for part, data in parts.items()} == {
        "train": ("cat", "dog"),
        "validation": ("owl",),
        "test": ("eel",),
    }


def test_classes_in_both_train_and_test_folders_are_pooled(tmp_path):
    for part, value in (("train", 1), ("test", 2)):
        grey(tmp_path / part / "cat" / "a.png", value)
        grey(tmp_path / part / "dog" / "a.png", value + 2)
    dataset = load_dataset(tmp_path, inputs=INPUTS)
    assert greys(dataset) == {"cat": [2, 1], "dog": [4, 3]}
    assert not dataset.published_splits


def test_a_folder_without_images_or_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no images. Put the images of each class"):
        load_dataset(tmp_path)
    grey(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match="1 images but no sub-folder with images"):
        load_dataset(tmp_path)


def test_an_empty_class_folder_is_refused_by_name(animals):
    (animals / "eel").mkdir()
    with pytest.raises(ValueError, match=r"'eel' in .*animals has no images"):
        load_dataset(animals, inputs=INPUTS)


def test_images_outside_the_class_folders_are_said(animals):
    grey(animals / "overview.png", 9)
    with pytest.warns(UserWarning, match=r"1 images lie in .*'overview.png'"):
        assert load_dataset(animals, inputs=INPUTS).classes == 2


def test_an_unreadable_image_is_refused_or_skipped(animals):
    (animals / "cat" / "c.jpg").write_bytes(b"\xff\xd8 broken")
    (animals / "cat" / "d.jpg").symlink_to("gone.jpg")
    with pytest.raises(UnreadableError, match=r"c\.jpg.*unreadable=\"skip\""):
        load_dataset(animals, inputs=INPUTS)
    with pytest.warns(UserWarning, match=r"2 examples of animals .*c\.jpg.*d\.jpg"):
        dataset = load_dataset(animals, inputs=INPUTS, unreadable="skip")
    assert greys(dataset)["cat"] == [1, 2]
    with pytest.raises(ValueError, match='"refuse" or "skip"'):
        load_dataset(animals, unreadable="ignore")


def test_a_link_to_a_parent_folder_is_not_followed_for_ever(animals):
    (animals / "cat" / "loop").symlink_to(animals)
    grey(animals / "cat" / "a.png", 5)
    with pytest.raises(ValueError, match=r"'cat/loop' in .* has no images"):
        load_dataset(animals, inputs=INPUTS)


def test_class_splits_of_the_folder(animals):
    splits = {"mine": {"train": ["dog"], "test": ["cat"]}}
    (animals / "class_splits.json").write_text(json.dumps(splits))
    dataset = load_dataset(animals, inputs=INPUTS)
    assert dataset.split()["train"].class_names == ("dog",)
    splits["mine"] = {"train": ["cat"], "test": ["dog"]}  # noticed although the images are cached
    (animals / "class_splits.json").write_text(json.dumps(splits))
    assert load_dataset(animals, inputs=INPUTS).split()["train"].class_names == ("cat",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list"),
        ('{"mine": ["cat"]}', "The split 'mine' in"),
        ('{"mine": {"train": "cat"}}', "Part 'train' .* is not a list of class names"),
        ('{"mine": {"train": [1]}}', "Part 'train' .* is not a list of class names"),
        ('{"mine": {"train": [], "test": ["cat"]}}', "Part 'train' .* has no classes"),
        ('{"mine": {"train": ["cat", "yak"]}}', "names class 'yak'"),
        ('{"mine": {"train": ["cat"], "test": ["cat"]}}', "'cat' .* in 'train' and in 'test'"),
    ],
)
def test_wrong_class_splits_are_refused_by_file_and_class(animals, content, message):
    (animals / "class_splits.json").write_text(content)
    with pytest.raises(ValueError, match=f"{message}") as error:
        load_dataset(animals, inputs=INPUTS)
    assert "class_splits.json" in str(error.value)


def test_a_folder_of_images_has_no_columns(animals):
    with pytest.raises(ValueError, match="no columns"):
        load_dataset(animals, label_column="label")


def test_images_of_all_sizes_become_one_size(tmp_path):
    for name, size in (("a/1.png", (5, 9)), ("a/2.png", (300, 200)), ("b/1.png", (6, 6))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size, "red").save(tmp_path / name)
    dataset = load_dataset(tmp_path, inputs=ImageInputs(size=10, channels=3))
    assert torch.equal(dataset.examples, dataset.examples[:1].expand(3, -1, -1, -1))
