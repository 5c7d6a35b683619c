"""The benchmarks of texts and of sounds, and how they are read by default."""

import io

import pyarrow.parquet as parquet
import pytest
import soundfile
import torch

from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.catalogue import BENCHMARKS
from quickstudy.inputs import AudioInputs, ImageInputs, TextInputs

pytestmark = pytest.mark.usefixtures("data")


HERE = ("clinc150", "banking77", "fsdd", "dspspeech20")


@pytest.mark.parametrize("name", HERE)
def test_the_catalogue_knows_what_the_files_say(name, monkeypatch):
    dataset, benchmark = load_dataset(name), BENCHMARKS[name]
    assert dataset.classes == benchmark.classes
    each = benchmark.examples_per_class
    assert (int(dataset.sizes.min()), int(dataset.sizes.max())) == (
        each if isinstance(each, tuple) else (each, each)
    )
    assert tuple(dataset.published_splits) == benchmark.splits
    assert dataset.inputs.modality == benchmark.modality
    monkeypatch.delattr("datasets.load_dataset")  # the second time nothing is read but the cache
    again = load_dataset(name)
    assert torch.equal(again.examples, dataset.examples)
    assert again.inputs == dataset.inputs
    for part in dataset.split().values():
        assert part.classes > 1


@pytest.mark.parametrize("name", [n for n, b in BENCHMARKS.items() if b.class_splits])
def test_remembered_divisions_name_each_class_once(name):
    benchmark = BENCHMARKS[name]
    assert set(benchmark.class_splits) <= set(benchmark.splits)
    for parts in benchmark.class_splits.values():
        names = [each for part in parts.values() for each in part]
        assert len(set(names)) == len(names)
        # Speech Commands' hub repository also has silence, which is no word.
        assert len(names) == benchmark.classes - (name == "speech_commands")


def test_texts_are_those_of_the_files(data):
    dataset = load_dataset("banking77")
    table = parquet.read_table(data / "banking77" / "test.parquet").to_pylist()
    expected = dataset.inputs.decode(table[0]["text"])
    klass = dataset.select(["card_arrival"])
    rows = dataset.examples[int(klass.starts) : int(klass.starts) + len(klass)]
    assert (rows == expected).all(1).any()


@pytest.mark.parametrize("division", [None, "protaugment-02"])
def test_subwords_are_learned_from_the_training_classes_of_a_division(data, division):
    dataset = load_dataset("banking77", split="test", class_splits=division)
    assert next(iter(dataset.published_splits)) == (division or "protaugment-01")
    names = set(dataset.split(division or "protaugment-01")["train"].class_names)
    table = parquet.read_table(data / "banking77" / "test.parquet")
    info = dataset.class_names
    texts = [
        row["text"]
        for row in sorted(table.to_pylist(), key=lambda row: row["label"])  # class after class
        if info[row["label"]] in names
    ]
    assert dataset.inputs == TextInputs.learned(texts)


def test_one_data_split_is_read_with_the_inputs_of_another():
    train = load_dataset("banking77", split="train")
    test = load_dataset("banking77", split="test", inputs=train.inputs)
    assert (len(train), len(test)) == (10003, 3080)
    assert len(load_dataset("banking77", split="train+test")) == 13083
    with pytest.raises(ValueError, match="no split 'validation'; it has train, test"):
        load_dataset("banking77", split="validation")


def test_questions_out_of_scope_are_a_configuration():
    inputs = load_dataset("clinc150").inputs
    outside = load_dataset("clinc150", configuration="out_of_scope", inputs=inputs)
    assert outside.class_names == ("oos_test", "oos_train", "oos_val")
    assert len(outside) == 1200
    assert not outside.published_splits


def test_sounds_are_those_of_the_files(data):
    dataset = load_dataset("dspspeech20")
    assert dataset.shape == (20480,)
    row = parquet.read_table(data / "dspspeech20" / "train.parquet").slice(0, 1).to_pylist()[0]
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")
    assert rate == 16000  # so nothing is resampled
    klass = dataset.select(["shuzi (数字)"])
    rows = dataset.examples[int(klass.starts) : int(klass.starts) + len(klass)]
    assert (rows == dataset.inputs.decode(row["audio"]["bytes"])).all(1).any()
    assert abs(len(samples) - 20480) < 100


def test_words_and_speakers_never_heard():
    train = load_dataset("dspspeech20", where={"speaker": "speakers/train"})
    test = load_dataset("dspspeech20", where={"speaker": "speakers/test"})
    assert list(train.published_splits) == ["words"]
    assert train.sizes.unique().tolist() == [2 * 20]
    assert test.sizes.unique().tolist() == [2 * 8]
    assert train.split()["train"].classes == 10
    assert test.split()["test"].classes == 6
    speakers = load_dataset("dspspeech20", label_column="speaker")
    assert list(speakers.published_splits) == ["speakers"]
    assert {part: p.classes for part, p in speakers.split().items()} == {
        "train": 20,
        "validation": 6,
        "test": 8,
    }
    one = load_dataset("dspspeech20", where={"speaker": ["speaker00"], "take": [3]})
    assert len(one) == 20


def test_repositories_by_their_paths_are_read_by_what_their_columns_hold(data):
    texts = load_dataset(data / "banking77")
    assert texts.classes == 77
    assert isinstance(texts.inputs, TextInputs)
    sounds = load_dataset(data / "fsdd", split="test")
    assert sounds.inputs == AudioInputs(rate=16000, seconds=2.0)
    assert sounds.sizes.tolist() == [30] * 10


def test_inputs_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="data of modality 'text'; inputs of modality 'image'"):
        load_dataset("banking77", inputs=ImageInputs())
