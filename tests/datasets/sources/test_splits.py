"""Folders with train, validation and test parts: what is a part, what is a class, what is said."""

import unicodedata

import numpy as np
import pytest
import soundfile

from quickstudy.classifier.collecting import labelled
from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.splits import split_of, split_of_table

from ..conftest import class_folders, loaded, sizes


def names(*parts):
    return [f"{part}/{name}" for part in parts for name in ("bar", "disk")]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *[(name, "train") for name in ("train", "Training", "TRN", "train_images", "train2017")],
        *[(name, "validation") for name in ("val", "Valid", "dev", "validation-set", "val_2")],
        *[(name, "test") for name in ("testing", "eval", "holdout", "hold-out", "held_out")],
        *[(name, None) for name in ("trainer", "trains", "contest", "train_test", "data", "cat")],
    ],
)
def test_names_of_parts(name, part):
    assert split_of(name) == part


def test_names_of_tables_hold_the_part_anywhere():
    assert split_of_table("reviews_train") == "train"
    assert split_of_table("test-00000-of-00001") == "test"
    assert split_of_table("train_and_test") is None


def test_loose_files_of_a_part_are_no_class(tmp_path):
    class_folders(tmp_path, ["train/bar", "train/disk", "test"])
    data, said = loaded(tmp_path)
    assert data.class_names == ("bar", "disk")
    assert len(said) == 1
    assert "3 images" in said[0]
    assert "'test'" in said[0]


@pytest.mark.parametrize("parts", [("train", "test"), ("train2017", "val2017"), ("Train",)])
def test_parts_without_classes_are_refused(parts, tmp_path):
    class_folders(tmp_path, parts)
    with pytest.raises(ValueError, match=r"no class folders\. Put the images of each class"):
        loaded(tmp_path)
    with pytest.raises(ValueError, match="no class folders"):
        labelled(tmp_path)


@pytest.mark.parametrize("part", ["train", "Test", "dev"])
def test_a_part_that_stands_alone_is_no_prefix(part, tmp_path):
    class_folders(tmp_path, names(part))
    data, said = loaded(tmp_path)
    assert data.class_names == ("bar", "disk")
    assert not said
    assert not data.published_splits
    assert sorted(labelled(tmp_path).labels) == ["bar"] * 3 + ["disk"] * 3


@pytest.mark.parametrize("part", ["dev", "eval", "VAL", "hold-out", "test_images"])
def test_other_names_of_parts_are_known(part, tmp_path):
    class_folders(tmp_path, names("train", part))
    data, said = loaded(tmp_path)
    assert sizes(data) == {"bar": 6, "disk": 6}
    assert len(said) == 1
    assert f"train and {part}" in said[0]
    assert "pooled" in said[0]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "System Volume Information", "__MACOSX"],
)
def test_folders_of_systems_are_no_classes(name, tmp_path):
    class_folders(tmp_path, ["bar", "disk", name, f"disk/{name}", ".Trash-1000", "bar/.thumbnails"])
    for junk in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png"):
        (tmp_path / "bar" / junk).write_bytes(b"x")
    data, said = loaded(tmp_path)
    assert sizes(data) == {"bar": 3, "disk": 3}
    assert not said


def test_pooling_is_said_each_time_and_a_part_can_be_chosen(tmp_path):
    class_folders(tmp_path, names("Training", "dev"))
    for _ in range(2):  # decoded, then from the cache
        data, said = loaded(tmp_path)
        assert sizes(data) == {"bar": 6, "disk": 6}
        assert "split='Training'" in said[0]
    for chosen in ("Training", "train"):
        data, said = loaded(tmp_path, split=chosen)
        assert sizes(data) == {"bar": 3, "disk": 3}
        assert not said
    own, _ = loaded(tmp_path / "Training")
    assert own.examples.equal(data.examples)
    assert sizes(loaded(tmp_path, split="train+validation")[0]) == {"bar": 6, "disk": 6}
    with pytest.raises(ValueError, match="no split 'test'; it has Training, dev"):
        loaded(tmp_path, split="test")


def test_parts_with_other_classes_are_a_split_of_the_classes(tmp_path):
    class_folders(tmp_path, [*names("train"), "val/cup", "holdout/eel"])
    data, said = loaded(tmp_path)
    assert not said
    assert {part: each.class_names for part, each in data.split().items()} == {
        "train": ("bar", "disk"),
        "validation": ("cup",),
        "test": ("eel",),
    }


def test_a_class_in_two_of_such_parts_is_named(tmp_path):
    class_folders(tmp_path, [*names("train"), "test/disk", "test/eel"])
    data, said = loaded(tmp_path)
    assert sizes(data) == {"bar": 3, "disk": 6, "eel": 3}
    assert not data.published_splits
    assert len(said) == 1
    assert "'disk' are in more than one" in said[0]


@pytest.mark.parametrize("extra", ["docs", "extra/cup", "test/all", "train/unlabelled", "train"])
def test_what_lies_beside_the_classes_of_parts_is_left_out(extra, tmp_path):
    class_folders(tmp_path, [*names("train"), "val/bar", "val/disk", extra])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "0.xml").write_text("<xml/>")
    data, said = loaded(tmp_path)
    assert sizes(data) == {"bar": 6, "disk": 6}
    assert any("3 images" in each and repr(extra) in each for each in said)


def test_an_empty_part_and_an_empty_class_of_a_part_are_named(tmp_path):
    class_folders(tmp_path, [*names("train"), "test/bar"])
    (tmp_path / "test" / "disk").mkdir()
    (tmp_path / "val").mkdir()
    data, said = loaded(tmp_path)
    assert sizes(data) == {"bar": 6, "disk": 3}
    assert any("2 folders" in each and "'test/disk'" in each for each in said)
    (tmp_path / "train" / "eel").mkdir()
    with pytest.raises(ValueError, match="class folder 'train/eel'"):
        loaded(tmp_path)


def test_a_part_beside_groups_of_classes_is_refused(tmp_path):
    class_folders(tmp_path, ["train/steam", "train/diesel", "ship/sail"])
    with pytest.raises(ValueError, match=r"'train' has the name of a split.*'ship' beside it"):
        loaded(tmp_path)


def test_a_class_called_like_a_part_stays_a_class_and_is_said(tmp_path):
    class_folders(tmp_path, ["bar", "disk", "test"])
    data, said = loaded(tmp_path)
    assert data.class_names == ("bar", "disk", "test")
    assert len(said) == 1
    assert "'test'" in said[0]
    assert "read as a class" in said[0]
    class_folders(tmp_path / "again", ["train/bar", "train/test"])
    data, said = loaded(tmp_path / "again")
    assert data.class_names == ("bar", "test")
    assert not said


def test_parts_inside_the_classes(tmp_path):
    class_folders(tmp_path / "two", [f"{name}/{part}" for name in "ab" for part in ("val", "trn")])
    data, said = loaded(tmp_path / "two")
    assert sizes(data) == {"a": 6, "b": 6}
    assert "trn and val" in said[0]
    class_folders(tmp_path / "one", ["vehicles/train", "vehicles/car", "animals/cat"])
    assert "vehicles/train" in loaded(tmp_path / "one")[0].class_names


def test_a_folder_around_all_is_no_prefix_of_classes(tmp_path):
    class_folders(tmp_path / "a", ["animals/cat", "animals/dog", "__MACOSX/animals/cat"])
    (tmp_path / "a" / "README.md").write_text("# Animals")
    assert sizes(loaded(tmp_path / "a")[0]) == {"cat": 3, "dog": 3}
    class_folders(tmp_path / "b", [f"data/images/{each}" for each in names("train", "test")])
    assert sizes(loaded(tmp_path / "b", split="test")[0]) == {"bar": 3, "disk": 3}
    class_folders(
        tmp_path / "c", [f"{p}/{p}/{n}" for p in ("training_set", "test_set") for n in "ab"]
    )
    assert sizes(loaded(tmp_path / "c")[0]) == {"a": 6, "b": 6}
    class_folders(tmp_path / "d", [f"{p}/images/{n}" for p in ("train", "test") for n in "ab"])
    assert sizes(loaded(tmp_path / "d")[0]) == {"a": 6, "b": 6}


def test_spellings_of_one_class_are_one_and_other_capitals_are_said(tmp_path):
    composed, apart = (unicodedata.normalize(form, "é1") for form in ("NFC", "NFD"))
    class_folders(tmp_path / "a", [f"train/{composed}", "train/b", f"test/{apart}", "test/b "])
    data, said = loaded(tmp_path / "a")
    assert sizes(data) == {"b": 6, composed: 6}
    assert any("spellings of the same name" in each for each in said)
    class_folders(tmp_path / "b", ["train/Cat", "train/Dog", "test/cat", "test/dog"])
    data, said = loaded(tmp_path / "b")
    assert not data.published_splits  # hardly a split of four classes
    assert len(said) == 1
    assert "'Cat' and 'cat' in  differ only in upper and lower case" in said[0]


def test_files_of_unknown_kind_are_counted_in_one_warning(tmp_path):
    for name in ("no", "yes"):
        (tmp_path / name).mkdir()
        for number in range(2):
            wave = np.sin(np.arange(4000) * (0.05 + 0.01 * number)) / 2
            soundfile.write(tmp_path / name / f"{number}.wav", wave, 8000)
    (tmp_path / "yes" / "2.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (tmp_path / "yes" / "3.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (tmp_path / "no" / "recording").write_bytes(bytes(100))
    expected = r"^3 files .*2 \.m4a, 1 without an ending.*'no/recording'.*Convert them to WAV"
    for _ in range(2):
        with pytest.warns(UserWarning, match=expected) as said:
            assert load_dataset(tmp_path).sizes.tolist() == [2, 2]
        assert len(said) == 1
    with pytest.warns(UserWarning, match=expected):
        assert len(labelled(tmp_path)) == 4


@pytest.mark.parametrize(
    ("ending", "advice"),
    [
        ("m4a", "Convert"),
        ("mp4", "Videos"),
        ("pdf", "Documents"),
        ("npy", "Load arrays"),
        ("zip", "Unpack"),
    ],
)
def test_folders_of_files_that_are_not_read_say_what_to_do(ending, advice, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1.{ending}").write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"It holds 2 \.{ending}\. {advice}"):
        load_dataset(tmp_path)
    with pytest.raises(ValueError, match="is a file, but not a table"):
        load_dataset(tmp_path / "a" / f"1.{ending}")


def test_what_is_learned_is_the_training_part(tmp_path):
    class_folders(tmp_path, [*names("Train", "test", "dev"), "test/eel"])
    with pytest.warns(UserWarning, match="Only .* Train in .* those of dev and test are left"):
        examples = labelled(tmp_path)
    assert sorted(examples.labels) == ["bar"] * 3 + ["disk"] * 3
    assert all(name.startswith("Train/") for name in examples.names)
    assert len(labelled(tmp_path, split="test")) == 9


def test_where_no_part_is_for_training_all_are_learned_and_that_is_said(tmp_path):
    class_folders(tmp_path, names("dev", "test"))
    with pytest.warns(UserWarning, match="dev and test .* are pooled"):
        assert len(labelled(tmp_path)) == 12


def test_groups_with_the_same_folders_are_said_to_be_classes(tmp_path):
    class_folders(tmp_path, ["support/cat", "support/dog", "query/cat", "query/dog"])
    data, said = loaded(tmp_path)
    assert data.class_names == ("query/cat", "query/dog", "support/cat", "support/dog")
    assert any("'query' and 'support'" in each and "same names" in each for each in said)
