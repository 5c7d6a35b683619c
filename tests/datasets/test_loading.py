"""load_dataset: named benchmarks, repositories of the hub and folders laid out like them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors

from datasets import Dataset, Features, Image, Value
from datasets import load_dataset as load_any
from datasets import load_dataset_builder as local_builder
from quickstudy.datasets import ClassDataset, available_datasets, load_dataset
from quickstudy.datasets.sources import glyphs
from quickstudy.datasets.sources.catalogue import BENCHMARKS
from quickstudy.inputs import FeatureInputs, ImageInputs

SMALL = ImageInputs(size=6, channels=1)


def repository(folder, columns, splits=("train",)):
    """Writes a folder laid out like a repository: six images a data split."""
    folder.mkdir(exist_ok=True)
    pictures = np.arange(6, dtype=np.uint8)[:, None, None].repeat(6, 1).repeat(6, 2)
    features = {}
    table = {}
    for name, values in columns.items():
        if isinstance(values, str):
            table[name], features[name] = list(pictures), Image()
        else:
            table[name] = list(values)
            features[name] = Value("int64" if isinstance(values[0], int) else "string")
    for number, split in enumerate(splits):
        shifted = {
            name: [v + 10 * number for v in values] if isinstance(columns[name], str) else values
            for name, values in table.items()
        }
        Dataset.from_dict(shifted, features=Features(features)).to_parquet(
            folder / f"{split}.parquet"
        )
    return folder


def greys(dataset, name):
    one = dataset.select([name])
    return sorted(one.examples[int(one.starts) : int(one.starts) + len(one), 0, 0, 0].tolist())


# Benchmarks ---------------------------------------------------------------------------------------


def test_omniglot_is_loaded_as_its_protocol_has_it(data):
    dataset = load_dataset("omniglot")
    assert dataset.classes == 1623 * 4
    assert dataset.shape == (1, 28, 28)
    assert dataset.sizes.unique().tolist() == [20]
    assert list(dataset.published_splits) == ["vinyals", "random", "lake"]
    sizes = {part: p.classes // 4 for part, p in dataset.split().items()}
    assert sizes == {"train": 1028, "validation": 172, "test": 423}
    plain = load_dataset("omniglot", rotations=False)
    assert plain.classes == BENCHMARKS["omniglot"].classes
    assert plain.examples.unique().tolist() == [0, 255]
    # Ink, of which there is little, is 1 once prepared.
    assert plain.gather(torch.arange(100), torch.zeros(100, dtype=torch.int64)).mean() < 0.3


def test_omniglots_images_are_those_of_the_file(data):
    dataset = load_dataset("omniglot", rotations=False)
    rows = load_any("parquet", data_files=str(data / "omniglot" / "evaluation.parquet"))["train"]
    for number in (0, 21, 13179):
        row = rows[number]
        klass = dataset.class_names.index(row["character"])
        start = int(dataset.starts[klass])
        images = dataset.examples[start : start + 20, 0].numpy()
        assert (images == np.array(row["image"].convert("L"))).all(axis=(1, 2)).any()


def test_the_second_load_imports_nothing_heavy(data):
    load_dataset("omniglot")
    script = (
        "import sys; from quickstudy.datasets import load_dataset; load_dataset('omniglot'); "
        "print('datasets' in sys.modules, 'huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr == ""


def test_cifar100_and_its_two_splits_are_decoded_once(data, monkeypatch):
    dataset = load_dataset("cifar100")
    assert repr(dataset) == "ClassDataset(cifar100: 100 classes, 600 examples each, 3x32x32)"
    assert list(dataset.published_splits) == ["cifar-fs", "fc100"]
    monkeypatch.setattr(ImageInputs, "decode", lambda *_: pytest.fail("decoded again"))
    fc100 = load_dataset("fc100")
    assert list(fc100.published_splits) == ["fc100", "cifar-fs"]
    assert {part: p.classes for part, p in fc100.split().items()} == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    assert load_dataset("cifar-fs").split()["test"].name == "cifar-fs/test"
    prepared = dataset.inputs.prepare(dataset.examples[::100])
    # Of 600 images, so the statistics are those of all to a few hundredths.
    assert prepared.mean((0, 2, 3)).abs().max() < 0.1
    assert (prepared.std((0, 2, 3)) - 1).abs().max() < 0.1


def test_the_catalogue_knows_what_the_files_say(data):
    written = json.loads((data / "cifar100" / "class_splits.json").read_text())
    remembered = BENCHMARKS["cifar100"].class_splits
    assert {s: {p: list(c) for p, c in parts.items()} for s, parts in remembered.items()} == written
    for name in ("omniglot", "cifar100"):
        dataset, benchmark = load_dataset(name, rotations=False), BENCHMARKS[name]
        assert dataset.classes == benchmark.classes
        assert dataset.sizes.unique().tolist() == [benchmark.examples_per_class]
        assert set(dataset.published_splits) == set(benchmark.splits)


def test_other_inputs_replace_the_benchmarks_own(data):
    dataset = load_dataset("omniglot", inputs=ImageInputs(size=14, channels=3), rotations=False)
    assert dataset.shape == (3, 14, 14)
    sound = type("Sound", (ImageInputs,), {"modality": "sound"})(84)
    with pytest.raises(ValueError, match="inputs of modality 'sound' cannot read it"):
        load_dataset("omniglot", inputs=sound)


def test_glyphs_are_drawn_once(monkeypatch):
    drawings = []

    def draw(seed, per_class):
        drawings.append(seed)
        images = np.random.default_rng(seed).integers(0, 256, (9, 1, 28, 28), dtype=np.uint8)
        splits = {"train": ("a",), "validation": ("b",), "test": ("c",)}
        return glyphs.Glyphs(images, ("a", "b", "c"), (3, 3, 3), splits)

    monkeypatch.setattr(glyphs, "draw_glyphs", draw)
    # A drawing code of another version, so that real glyphs in the cache are not found.
    monkeypatch.setattr("quickstudy.datasets.sources.finding.GLYPHS_SEED", 12345)
    first, second = load_dataset("glyphs"), load_dataset("glyphs")
    assert drawings == [12345]
    assert first.inputs == BENCHMARKS["omniglot"].inputs
    assert torch.equal(first.examples, second.examples)
    assert np.array_equal(first.examples.numpy(), draw(12345, 3).images)
    assert {part: p.class_names for part, p in first.split().items()} == {
        "train": ("a",),
        "validation": ("b",),
        "test": ("c",),
    }
    assert load_dataset("glyphs", inputs=ImageInputs(size=8, channels=3)).shape == (3, 8, 8)


def test_available_datasets_say_where_they_are(tmp_path, monkeypatch):
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    places = {each.benchmark.name: each for each in available_datasets()}
    assert places["glyphs"].found
    assert not places["omniglot"].found
    assert "QUICKSTUDY_DATA/omniglot" in places["omniglot"].place
    assert "uoft-cs/cifar100" in places["cifar100"].place
    (tmp_path / "omniglot").mkdir()
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    (there,) = [each for each in available_datasets() if each.benchmark.name == "omniglot"]
    assert there.found
    assert str(tmp_path / "omniglot") in there.place
    assert there.benchmark.modality == "image"


# Names and paths that lead nowhere ----------------------------------------------------------------


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"Did you mean omniglot.*glyphs.*cifar-fs"):
        load_dataset("omniglut")
    with pytest.raises(FileNotFoundError, match=r"no folder './omniglot'"):
        load_dataset("./omniglot")


def test_a_missing_folder_and_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*Check the path"):
        load_dataset(tmp_path / "gone")
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file"):
        load_dataset(str(tmp_path / "data.zip"))


def test_omniglot_that_is_nowhere_says_where_to_put_it(monkeypatch):
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"QUICKSTUDY_DATA is not set.*'character'"):
        load_dataset("omniglot")


# The hub ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("offline"), "cannot be reached"),
        (errors.HFValidationError("bad"), "has no data set 'some/thing'"),
        (ConnectionError("no route"), "cannot be reached"),
    ],
)
def test_the_hub_without_the_repository_or_out_of_reach(monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FileNotFoundError, match=f"no file or folder 'some/thing' here.*{message}"):
        load_dataset("some/thing")
    with pytest.raises(FileNotFoundError, match=r"cifar100 .*not set.*hub.*name that folder"):
        load_dataset("cifar100")


def test_a_repository_of_the_hub_is_decoded_once(tmp_path, monkeypatch):
    """With a local folder in the place of the hub, which tests cannot reach."""
    snapshot = tmp_path / "abc123"
    there = repository(tmp_path / "there", {"image": "pictures", "label": [0, 0, 0, 1, 1, 1]})
    snapshot.mkdir()
    (snapshot / "class_splits.json").write_text('{"mine": {"train": ["0"], "test": ["1"]}}')
    asked = set()

    def builder(name, configuration, revision, cache_dir):
        asked.add((name, configuration, revision, cache_dir))
        return local_builder(str(there), cache_dir=str(tmp_path / "copies"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    monkeypatch.setattr("datasets.load_dataset_builder", builder)
    for _ in range(2):
        dataset = load_dataset("some/thing", inputs=SMALL)
    assert asked == {("some/thing", None, "abc123", None)}
    assert dataset.name == "some/thing"
    assert dataset.split()["test"].class_names == ("1",)
    assert greys(dataset, "1") == [3, 4, 5]


def test_of_a_repository_with_a_script_the_hubs_parquet_copy_is_read(tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    for number, configuration in enumerate(("v1", "v2")):
        labels = [number] * 3 + [2] * 3
        one = repository(tmp_path / configuration, {"image": "pictures", "label": labels})
        (copy / configuration / "train").mkdir(parents=True)
        shutil.copy(one / "train.parquet", copy / configuration / "train" / "0000.parquet")
    snapshot = tmp_path / "abc123"
    snapshot.mkdir()

    def builder(name, configuration=None, revision=None, cache_dir=None, data_dir=None):
        if revision == "abc123":
            raise RuntimeError("Dataset scripts are no longer supported, but found thing.py")
        assert (name, configuration, revision) == ("old/thing", None, "refs/convert/parquet")
        return local_builder(str(copy), data_dir=data_dir, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    monkeypatch.setattr("datasets.load_dataset_builder", builder)
    dataset = load_dataset("old/thing", inputs=SMALL, configuration="v2")
    assert dataset.class_names == ("1", "2")
    with pytest.raises(ValueError, match="old/thing could not be loaded from the Hugging Face"):
        load_dataset("old/thing", inputs=SMALL)  # "default" is no configuration of it


# Folders laid out like repositories ---------------------------------------------------------------


def test_data_splits_are_pooled_and_columns_found(tmp_path):
    columns = {"picture": "pictures", "Label": list("bbaaab"), "author": list("uvwxyz")}
    folder = repository(tmp_path / "own", columns, splits=("train", "test"))
    dataset = load_dataset(folder, inputs=SMALL)
    assert dataset.name == "own"
    assert dataset.class_names == ("a", "b")
    assert greys(dataset, "a") == [2, 3, 4, 12, 13, 14]
    by_author = load_dataset(folder, inputs=SMALL, label_column="author")
    assert greys(by_author, "u") == [0, 10]


def test_columns_that_are_not_clear_are_named(tmp_path):
    columns = {"left": "pictures", "right": "pictures", "breed": list("aabbcc"), "age": [1] * 6}
    folder = repository(tmp_path / "own", columns)
    with pytest.raises(ValueError, match=r"several columns of images.* left \(Image\).*input_col"):
        load_dataset(folder)
    with pytest.raises(ValueError, match=r"says the class.*age \(int64\).*label_column"):
        load_dataset(folder, input_column="left")
    with pytest.raises(ValueError, match="no column 'middle'"):
        load_dataset(folder, input_column="middle", label_column="breed")
    with pytest.raises(ValueError, match=r"'age' .*cannot be read as images"):
        load_dataset(folder, input_column="age", label_column="breed")
    dataset = load_dataset(folder, inputs=SMALL, input_column="left", label_column="breed")
    assert dataset.class_names == ("a", "b", "c")


def test_class_splits_tell_which_column_holds_the_classes(data):
    dataset = load_dataset(data / "omniglot", inputs=ImageInputs(size=28, channels=1, invert=True))
    assert dataset.classes == 1623


def test_data_without_inputs_of_a_kind_are_refused(data_root, tmp_path):
    with pytest.raises(ValueError, match=r"no column of images.* text \(string\)"):
        load_dataset(data_root / "banking77", inputs=SMALL)
    repository(tmp_path / "own", {"label": list("aabbcc"), "age": [1] * 6})
    with pytest.raises(ValueError, match=r"says the class|cannot be read|no column of images, tex"):
        load_dataset(tmp_path / "own", label_column="label")


def test_examples_without_a_label_are_left_out(tmp_path):
    folder = repository(tmp_path / "own", {"image": "pictures", "label": ["a", None, *"abab"]})
    with pytest.warns(UserWarning, match=r"1 examples of .* have no label"):
        dataset = load_dataset(folder, inputs=SMALL)
    assert greys(dataset, "a") == [0, 2, 4]


def test_changed_contents_are_decoded_again(tmp_path):
    columns = {"image": "pictures", "label": [1, 1, 2, 2, 10, 10]}
    folder = repository(tmp_path / "own", columns)
    assert load_dataset(folder, inputs=SMALL).class_names == ("1", "2", "10")
    columns["label"] = [1, 1, 2, 2, 2, 2]
    repository(folder, columns)
    assert load_dataset(folder, inputs=SMALL).class_names == ("1", "2")


def test_damaged_parquet_files_are_said(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"laid out like a repository .* but cannot be read"):
        load_dataset(tmp_path)


def test_nothing_is_left_beside_the_cache_file(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    folder = repository(tmp_path / "own", {"image": "pictures", "label": [0, 0, 0, 1, 1, 1]})
    load_dataset(folder, inputs=SMALL)
    left = [Path(path).suffix for path in (tmp_path / "cache" / "datasets").iterdir()]
    assert left == [".safetensors"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "data are None; .* ClassDataset.from_arrays"),
        (["a", "b"], "data are a list; .* one at a time"),
        ({"train": 1}, "a dict of 'train'; .* ClassDataset.from_arrays"),
        (np.zeros((2, 3)), "a ndarray; .* ClassDataset.from_arrays"),
        (torch.utils.data.TensorDataset(torch.ones(2)), "a TensorDataset; .*from_arrays"),
        (ClassDataset.contiguous(torch.ones(2, 3), [1, 1], ["a", "b"], FeatureInputs(3)), "loaded"),
        (b"glyphs", "a bytes; load_dataset reads names and paths"),
        ("", "name of the data is empty"),
        (" ", "name of the data is empty"),
    ],
)
def test_what_is_no_name_and_no_path_is_shown_its_way(given, said):
    with pytest.raises(ValueError, match=said):
        load_dataset(given)


def test_inputs_are_an_object(tmp_path):
    for given in (ImageInputs, "image"):
        with pytest.raises(ValueError, match="give an object"):
            load_dataset(tmp_path, inputs=given)
