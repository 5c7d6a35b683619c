"""Folders of images, texts or sounds, one sub-folder a class, and class_splits.json."""

import json
import os
import warnings

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from quickstudy.datasets import load_dataset
from quickstudy.inputs import AudioInputs, FeatureInputs, ImageInputs, TextInputs, UnreadableError

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
    assert dataset.rotations is None
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
    (animals / "sizes.csv").write_text("animal,size\ncat,1\n")
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
    with pytest.warns(UserWarning, match="examples of train and test in .* are pooled"):
        dataset = load_dataset(tmp_path, inputs=INPUTS)
    assert greys(dataset) == {"cat": [2, 1], "dog": [4, 3]}
    assert not dataset.published_splits


def test_a_folder_without_images_or_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no images, texts or sounds. Put the files"):
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
        ('{"mine": ["cat"]}', "The class splits 'mine' in"),
        ('{"mine": {"train": "cat"}}', "Split 'train' .* is not a list of class names"),
        ('{"mine": {"train": [1]}}', "Split 'train' .* is not a list of class names"),
        ('{"mine": {"train": [], "test": ["cat"]}}', "Split 'train' .* has no classes"),
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


# Texts, sounds, and folders that mix them ---------------------------------------------------------


@pytest.fixture
def letters(tmp_path):
    """Two classes of texts: three thanks and two complaints."""
    folder = tmp_path / "letters"
    for path, text in (
        ("thanks/1.txt", "Thank you so much!"),
        ("thanks/2.md", "Many thanks for the parcel."),
        ("thanks/3.TXT", "\ufeffDěkuji za balík."),
        ("complaint/1.txt", "The parcel never came."),
        ("complaint/2.txt", "It came too late."),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def test_a_folder_of_texts(letters):
    (letters / "README.md").write_text("# Letters of customers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the README is no example, and no reason for a warning
        dataset = load_dataset(letters)
    assert dataset.class_names == ("complaint", "thanks")
    assert dataset.sizes.tolist() == [2, 3]
    expected = [
        dataset.inputs.decode(text)
        for text in (
            "The parcel never came.",
            "It came too late.",
            "Thank you so much!",
            "Many thanks for the parcel.",
            "Děkuji za balík.",
        )
    ]
    assert torch.equal(dataset.examples, torch.stack(expected))
    again = load_dataset(letters)
    assert again.inputs == dataset.inputs
    other = load_dataset(letters, inputs=TextInputs.learned(["something else"], length=5))
    assert other.shape == (5,)


def test_texts_in_utf_16_are_read_by_their_mark(letters):
    before = load_dataset(letters)
    for encoding in ("utf-16-le", "utf-16-be"):
        (letters / "thanks" / "2.md").write_bytes(f"\ufeff{'Díky'}".encode(encoding))
        data = load_dataset(letters, inputs=before.inputs)
        assert data.examples[3].equal(before.inputs.decode("Díky"))


def test_a_text_that_is_empty_or_in_another_encoding_is_refused_or_skipped(letters):
    (letters / "complaint" / "3.txt").write_bytes("Příliš pozdě".encode("cp1250"))
    with pytest.raises(UnreadableError, match=r"complaint/3\.txt.* is not in UTF-8"):
        load_dataset(letters)
    (letters / "complaint" / "4.txt").write_text(" \n")
    with pytest.warns(UserWarning, match=r"2 examples of letters .*3\.txt.*4\.txt"):
        dataset = load_dataset(letters, unreadable="skip")
    assert dataset.sizes.tolist() == [2, 3]


def sound(path, level, rate=16000, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(rate * seconds), level, np.int16), rate)


def test_a_folder_of_sounds(tmp_path):
    for path, level in (("low/a.wav", 100), ("low/b.flac", 200), ("high/a.WAV", 9000)):
        sound(tmp_path / path, level)
    dataset = load_dataset(tmp_path)
    assert dataset.inputs == AudioInputs(rate=16000, seconds=2.0)
    assert dataset.class_names == ("high", "low")
    assert dataset.examples.dtype == torch.int16
    assert dataset.examples.amax(1).tolist() == [9000, 100, 200]
    (tmp_path / "low" / "broken.ogg").write_bytes(b"OggS and no more")
    with pytest.raises(UnreadableError, match=r"broken\.ogg"):
        load_dataset(tmp_path)
    with pytest.warns(UserWarning, match=r"broken\.ogg"):
        assert load_dataset(tmp_path, unreadable="skip").sizes.tolist() == [1, 2]


def test_a_folder_that_mixes_kinds_is_refused_unless_it_is_said_which(animals):
    sound(animals / "cat" / "meow.wav", 5)
    sound(animals / "dog" / "bark.wav", 7)
    with pytest.raises(ValueError, match=r"mixes modalities: 3 images, 2 sounds.*`inputs`"):
        load_dataset(animals)
    assert greys(load_dataset(animals, inputs=INPUTS)) == {"cat": [1, 2], "dog": [3]}
    sounds = load_dataset(animals, inputs=AudioInputs(seconds=0.5))
    assert sounds.examples.amax(1).tolist() == [5, 7]


def test_what_is_few_beside_the_others_is_left_out_with_a_warning(animals):
    (animals / "cat" / "notes.txt").write_text("meow")
    with pytest.warns(UserWarning, match=r"3 images, 1 texts: only the images are read"):
        assert load_dataset(animals).sizes.tolist() == [2, 1]


def test_inputs_of_no_kind_that_files_hold_are_refused(animals):
    with pytest.raises(
        ValueError, match=r"data of modality 'image'; inputs of modality 'features'"
    ):
        load_dataset(animals, inputs=FeatureInputs(3))


def test_files_of_other_kinds_are_said_where_inputs_choose_one(animals):
    (animals / "cat" / "notes.txt").write_text("meow")
    with pytest.warns(UserWarning, match=r"3 images, 1 texts: only the images are read"):
        assert load_dataset(animals, inputs=ImageInputs(8)).sizes.tolist() == [2, 1]


def test_what_windows_finds_on_a_disk_is_no_class(animals):
    (animals / "FOUND.000").mkdir()
    grey(animals / "FOUND.000" / "a.png", 5)
    assert "FOUND.000" not in load_dataset(animals).class_names
