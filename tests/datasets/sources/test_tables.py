"""Tables of texts, or of paths of images and sounds: CSV, TSV, JSON lines, parquet."""

import os

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image
from pyarrow import parquet

from datasets import Dataset
from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.rows import Rows, raw_examples
from quickstudy.datasets.sources.tables import TableFiles
from quickstudy.inputs import AudioInputs, ImageInputs, TextInputs, UnreadableError

SMALL = ImageInputs(size=6, channels=1)
ROWS = [("Good morning", "greeting"), ("See you,\nsoon", "parting"), ("NA", "01"), ("true", "1")]


def write_csv(path, separator=","):
    lines = [f"text{separator}label"]
    lines += [f'"{text}"{separator}"{label}"' for text, label in ROWS]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())


def examples_of(path, **columns):
    """The raw texts by class, as they are before decoding."""
    source = TableFiles([path], columns=Columns(**columns))
    with source.opened() as tables:
        raw = raw_examples(tables, source.columns, Rows(), None)
        texts = [text for _, text in raw.rows(0)]
    return {
        name: [texts[row] for row in np.flatnonzero(raw.class_of_rows() == number)]
        for number, name in enumerate(raw.class_names)
    }


EXPECTED = {label: [text] for text, label in ROWS}


def test_what_a_csv_or_tsv_says_stays_as_it_is_written(tmp_path):
    write_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "b.tsv", "\t")
    assert examples_of(tmp_path / "a.csv") == EXPECTED
    assert examples_of(tmp_path / "b.tsv") == EXPECTED


def test_a_csv_whose_columns_are_separated_by_semicolons(tmp_path):
    """Spreadsheets write such where a number's comma is a decimal point."""
    write_csv(tmp_path / "a.csv", ";")
    assert examples_of(tmp_path / "a.csv") == EXPECTED
    (tmp_path / "b.csv").write_text("text;label\nhello, you;x\nbye;y\n")
    assert examples_of(tmp_path / "b.csv") == {"x": ["hello, you"], "y": ["bye"]}


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_json_and_parquet(tmp_path, ending):
    table = Dataset.from_dict({"Query": [r[0] for r in ROWS], "intent": [r[1] for r in ROWS]})
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_json(path, lines=ending == "jsonl")
    assert examples_of(path) == EXPECTED


def test_a_table_is_loaded_and_a_changed_one_is_decoded_again(tmp_path):
    path = tmp_path / "talk.csv"
    path.write_text("sentence,kind\nhello,a\ngoodbye,b\n")
    dataset = load_dataset(path, label_column="kind")
    assert dataset.name == "talk.csv"
    assert dataset.class_names == ("a", "b")
    assert dataset.examples[0].equal(dataset.inputs.decode("hello"))
    path.write_text("sentence,kind\nhello,a\ngoodbye,c\n")
    assert load_dataset(path, label_column="kind").class_names == ("a", "c")


def test_a_folder_of_tables_has_a_data_split_for_each(tmp_path):
    for name, text in (("train", "one"), ("test", "two")):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{text},x\n{text} more,y\n")
    assert load_dataset(tmp_path).sizes.tolist() == [2, 2]
    test = load_dataset(tmp_path, split="test")
    assert test.sizes.tolist() == [1, 1]
    assert test.examples[0].equal(test.inputs.decode("two"))
    with pytest.raises(ValueError, match="no split 'exam'; it has test, train"):
        load_dataset(tmp_path, split="exam")


def test_an_empty_text_is_refused_or_skipped(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nhello,x\n,x\nbye,y\n")
    with pytest.raises(UnreadableError, match=r"Text 1 of a\.csv .*empty or blank.*skip"):
        load_dataset(tmp_path / "a.csv")
    with pytest.warns(UserWarning, match="1 examples .* Text 1"):
        assert load_dataset(tmp_path / "a.csv", unreadable="skip").sizes.tolist() == [1, 1]


@pytest.fixture
def pictures(tmp_path):
    """A table beside a folder with greys 1, 2 and 3."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for value in (1, 2, 3):
        Image.fromarray(np.full((6, 6), value, np.uint8)).save(folder / "images" / f"{value}.png")
    (folder / "labels.csv").write_text(
        "file_name,label,note\nimages/3.png,b,x\nimages/1.png,a,y\nimages/2.png,a,z\n"
    )
    return folder


@pytest.mark.parametrize("which", ["labels.csv", "."])
def test_paths_of_images_are_relative_to_the_table(pictures, which):
    dataset = load_dataset(pictures / which, inputs=SMALL)
    assert dataset.class_names == ("a", "b")
    assert dataset.examples[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert load_dataset(pictures / which).shape == (3, 84, 84)  # their kind is found


def test_changed_files_that_a_table_names_are_decoded_again(pictures):
    load_dataset(pictures / "labels.csv", inputs=SMALL)
    changed = pictures / "images" / "1.png"
    Image.fromarray(np.full((6, 6), 77, np.uint8)).save(changed)
    os.utime(changed, ns=(1, 1))
    dataset = load_dataset(pictures / "labels.csv", inputs=SMALL)
    assert dataset.examples[:, 0, 0, 0].tolist() == [77, 2, 3]


def test_paths_may_not_leave_the_tables_folder(pictures):
    outside = pictures.parent / "secret.png"
    Image.new("L", (6, 6)).save(outside)
    (pictures / "images" / "link.png").symlink_to(outside)
    for path in ("../secret.png", str(outside), "images/../../secret.png", "images/link.png"):
        (pictures / "bad.csv").write_text(f"file_name,label\nimages/1.png,a\n{path},b\n")
        with pytest.raises(ValueError, match=r"which is not inside .*data"):
            load_dataset(pictures / "bad.csv", inputs=SMALL)
        with pytest.raises(ValueError, match=r"which is not inside .*data"):
            load_dataset(pictures / "bad.csv", inputs=SMALL, unreadable="skip")


def test_a_file_that_is_missing_is_named(pictures):
    with (pictures / "labels.csv").open("a") as file:
        file.write("images/9.png,b,w\n")
    with pytest.raises(UnreadableError, match=r"'images/9\.png'"):
        load_dataset(pictures / "labels.csv", inputs=SMALL)


def test_paths_of_sounds(tmp_path):
    for name, level in (("a", 10), ("b", 20)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(1600, level, np.int16), 16000)
    (tmp_path / "said.jsonl").write_text(
        '{"file": "a.wav", "text": "ah", "word": "ah"}\n{"file": "b.wav", "text": "b", "word": "b"}'
    )
    dataset = load_dataset(tmp_path / "said.jsonl")
    assert isinstance(dataset.inputs, AudioInputs)
    assert dataset.examples.amax(1).tolist() == [10, 20]
    # The transcripts are read where it is said that texts are meant.
    texts = load_dataset(tmp_path / "said.jsonl", inputs=TextInputs.learned(["ah"], length=4))
    assert texts.shape == (4,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Empty CSV file"),
        (b"text,label\n", "has no rows"),
        (b"text,label\n\xff\xfe,a\n", "UTF8.* A table is in UTF-8"),
        (b"text,label\na,b,c\n", "Expected 2 columns, got 3"),
        (b"left,right\na,b\n", "several columns of texts.*left .string.*input_column"),
        (b"text,colour\na,b\n", "says the class.*label_column"),
    ],
)
def test_tables_that_cannot_be_understood_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "some.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(path)
    assert "some.csv" in str(error.value)


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match=r"no column 'speech'. Its columns are text \(string\)"):
        load_dataset(path, input_column="speech")
    with pytest.raises(ValueError, match=r"'text' of .* cannot be read as images"):
        load_dataset(path, input_column="text", inputs=SMALL)
    with pytest.raises(ValueError, match="no column 'speaker'"):
        load_dataset(path, where={"speaker": ["1"]})


def test_one_column_is_not_both_the_input_and_the_class(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match="'text' was named for the inputs and for the classes"):
        load_dataset(path, input_column="text", label_column="text")


# Found by fuzzing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label,label\na,b,c\n"),
        ("a.tsv", "\t\ta\n1\t2\t3\n"),
        ("a.json", "[" * 100_000),
        ("a.jsonl", '{"text": "a", "label": ' + "[" * 100_000 + "\n"),
        ("a.json", '[{"text": "a", "label": "b"}, 3]'),
        ("a.json", '{"text": ["a", "b"], "label": ["c"]}'),
        ("a.jsonl", '{"text": "a", "label": 1e400}\n{"text": "a", "label": 99999999999999999999}'),
    ],
)
def test_tables_that_make_no_sense_are_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"The table .* cannot be read"):
        load_dataset(tmp_path / name)


def test_a_string_that_is_no_text_is_one_unreadable_example(tmp_path):
    column = pa.array([b"good", b"caf\xe9", b"fine"]).cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, column.buffers())
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": texts, "label": ["a", "a", "b"]}), path)
    inputs = TextInputs.learned(["good", "fine"], vocabulary=300)
    with pytest.raises(UnreadableError, match=r"Text 1 of a\.parquet cannot be read"):
        load_dataset(path, inputs=inputs)
    with pytest.warns(UserWarning, match="1 examples"):
        assert load_dataset(path, inputs=inputs, unreadable="skip").sizes.tolist() == [1, 1]


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a", "label": "x"}, {"text": "b", "label": "y", "more": 1}]',
        '{"text": ["a", "b"], "label": ["x", "y"]}',
        '{"text": "a", "label": "x"}\n{"label": "y", "text": "b"}\n',
    ],
)
def test_json_as_people_write_it(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert examples_of(tmp_path / "a.json") == {"x": ["a"], "y": ["b"]}


def test_dates_in_json_are_labels_as_they_are_written(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "2020-01-01"}\n')
    assert examples_of(tmp_path / "a.jsonl") == {"2020-01-01": ["a"]}
