"""metadata.csv in a folder of images or sounds, as the Hugging Face hub has it."""

import json
import warnings

import numpy as np
import pytest
import soundfile

from quickstudy.classifier.collecting import labelled, new_inputs
from quickstudy.datasets import load_dataset
from quickstudy.inputs import AudioInputs, UnreadableError

from ..conftest import class_folders, loaded, sizes

ROWS = [("0.png", "cat"), ("1.png", "dog"), ("2.png", "cat")]


def metadata(folder, rows=ROWS, label="label", column="file_name", ending="csv"):
    if ending == "jsonl":
        text = "\n".join(json.dumps({column: path, label: name}) for path, name in rows)
    else:
        text = "\n".join([f"{column},{label}", *(f"{path},{name}" for path, name in rows)])
    (folder / f"metadata.{ending}").write_text(text + "\n")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("column", ["file_name", "image_file_name"])
def test_a_table_beside_the_images_says_their_classes(ending, column, tmp_path):
    class_folders(tmp_path, ["."])
    metadata(tmp_path, column=column, ending=ending)
    data, said = loaded(tmp_path)
    assert sizes(data) == {"cat": 2, "dog": 1}
    assert not said
    assert labelled(tmp_path).labels == ["cat", "dog", "cat"]


def test_a_column_of_any_name_is_chosen(tmp_path):
    class_folders(tmp_path, ["."])
    metadata(tmp_path, label="breed")
    with pytest.raises(ValueError, match="Name the right one with label_column"):
        loaded(tmp_path)
    assert sizes(loaded(tmp_path, label_column="breed")[0]) == {"cat": 2, "dog": 1}
    assert len(labelled(tmp_path, label_column="breed")) == 3


def test_each_part_has_a_table_of_its_own(tmp_path):
    class_folders(tmp_path, ["train", "test"])
    metadata(tmp_path / "train")
    metadata(tmp_path / "test", [*ROWS[:2], ("2.png", "eel")])
    data, said = loaded(tmp_path)
    assert sizes(data) == {"cat": 3, "dog": 2, "eel": 1}
    assert len(said) == 1
    assert "train and test" in said[0]
    assert sizes(loaded(tmp_path, split="test")[0]) == {"cat": 1, "dog": 1, "eel": 1}
    with pytest.warns(UserWarning, match="Only the examples of train"):
        assert labelled(tmp_path).labels == ["cat", "dog", "cat"]


def test_one_table_for_all_parts(tmp_path):
    class_folders(tmp_path, ["train", "test"])
    rows = [
        (f"{part}/{path}", f"{part} {name}") for part in ("train", "test") for path, name in ROWS
    ]
    metadata(tmp_path, rows)
    data, said = loaded(tmp_path)
    assert not said
    assert {part: each.class_names for part, each in data.split().items()} == {
        "train": ("train cat", "train dog"),
        "test": ("test cat", "test dog"),
    }


def test_images_without_a_row_are_counted_and_rows_without_an_image_refused(tmp_path):
    class_folders(tmp_path, ["."], each=5)
    metadata(tmp_path)
    data, said = loaded(tmp_path)
    assert sizes(data) == {"cat": 2, "dog": 1}
    assert len(said) == 1
    assert "2 images" in said[0]
    assert "'3.png' is the first" in said[0]
    metadata(tmp_path, [*ROWS, ("9.png", "cat")])
    with pytest.raises(UnreadableError, match=r"9\.png"):
        loaded(tmp_path)


def test_a_table_in_class_folders_counts_if_it_says_classes(tmp_path):
    class_folders(tmp_path, ["cat", "dog"])
    (tmp_path / "metadata.csv").write_text("file_name,caption\ncat/0.png,a cat sits\n")
    assert sizes(loaded(tmp_path)[0]) == {"cat": 3, "dog": 3}
    metadata(tmp_path, [(f"{name}/{n}.png", "pet") for name in ("cat", "dog") for n in range(3)])
    assert sizes(loaded(tmp_path)[0]) == {"pet": 6}


def test_a_table_in_a_folder_around_all(tmp_path):
    class_folders(tmp_path, ["pets"])
    metadata(tmp_path / "pets")
    assert sizes(loaded(tmp_path)[0]) == {"cat": 2, "dog": 1}


def test_sounds_and_paths_out_of_the_folder(tmp_path):
    for number in range(3):
        wave = np.sin(np.arange(4000) * (0.05 + 0.01 * number)) / 2
        soundfile.write(tmp_path / f"{number}.wav", wave, 8000)
    metadata(tmp_path, [(f"{n}.wav", "ab"[n % 2]) for n in range(3)], label="word")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset(tmp_path, inputs=AudioInputs(8000, 0.5))
    assert sizes(data) == {"a": 2, "b": 1}
    metadata(tmp_path, [("../0.wav", "a"), ("1.wav", "b")])
    with pytest.raises(ValueError, match="not inside"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("column", ["split", "Subset"])
def test_a_column_of_parts_divides_a_table(column, tmp_path):
    rows = ["hi,x,train", "ho,y,train", "he,x,test", "ha,y,dev"]
    (tmp_path / "t.csv").write_text("\n".join([f"text,label,{column}", *rows]) + "\n")
    with pytest.warns(UserWarning, match="train and dev and test in .* are pooled"):
        assert load_dataset(tmp_path / "t.csv", input_column="text").sizes.tolist() == [2, 2]
    part = {"input_column": "text", "split": "validation"}
    assert load_dataset(tmp_path / "t.csv", **part).class_names == ("y",)
    with pytest.warns(UserWarning, match="Only the examples of train"):
        assert labelled(tmp_path / "t.csv", "text").raw == ["hi", "ho"]


def test_tables_of_parts_are_pooled_aloud_and_learned_from_in_part(tmp_path):
    for name, labels in (("train", "xy"), ("test", "xy")):
        lines = [f"{name} {label},{label}" for label in labels]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (tmp_path / "sample.csv").write_text("id,answer\n1,x\n")
    for _ in range(2):
        with pytest.warns(UserWarning, match="train and test in .* are pooled"):
            assert load_dataset(tmp_path).sizes.tolist() == [2, 2]
    with pytest.warns(UserWarning, match="Only the examples of train"):
        assert labelled(tmp_path).raw == ["train x", "train y"]
    (tmp_path / "test.csv").write_text("text\nunlabelled\n")
    with pytest.warns(UserWarning, match="'test' of .* lacks one of the columns"):
        assert load_dataset(tmp_path).sizes.tolist() == [1, 1]


def test_tables_of_other_classes_are_a_split(tmp_path):
    for name, labels in (("train", "abc"), ("test", "de")):
        lines = [f"{name} {label},{label}" for label in labels]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = load_dataset(tmp_path).split()
    assert {part: data.class_names for part, data in parts.items()} == {
        "train": ("a", "b", "c"),
        "test": ("d", "e"),
    }


def test_labels_that_look_the_same_are_one_class(tmp_path):
    lines = ["hi,cat", "ho,cat ", "he,dog", "ha,Dog"]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        data = load_dataset(tmp_path / "t.csv")
    assert sizes(data) == {"Dog": 1, "cat": 2, "dog": 1}
    said = [str(each.message) for each in seen]
    assert any("such as 'cat' (trailing spaces" in each for each in said)
    assert any("'Dog' and 'dog' in" in each for each in said)


def test_new_inputs_in_a_folder_leave_out_no_file_in_silence(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "b.m4a").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 files .* \(1 \.m4a\): 'b\.m4a' .* Convert them"):
        assert len(new_inputs([str(tmp_path)], "audio")) == 1
    with pytest.raises(ValueError, match=r"no images. It holds 1 \.m4a, 1 \.wav"):
        new_inputs([str(tmp_path)], "image")
