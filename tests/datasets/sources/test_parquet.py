"""Folders laid out like repositories of the hub whose parquet files have many row groups."""

import io
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.hub import LocalRepository
from quickstudy.datasets.sources.listing import list_folder
from quickstudy.datasets.sources.table import ParquetTable, codes, first_values
from quickstudy.inputs import ImageInputs

SMALL = ImageInputs(size=4, channels=1)
CLASSES = 5


def png(grey, noise=0):
    """A grey picture; with noise its file is some ``noise`` bytes long."""
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "png")
    return file.getvalue() + np.random.default_rng(grey).bytes(noise)


def write(path, count, first=0, noise=0, group=7):
    """Pictures whose grey says their number, in row groups; their classes are mixed."""
    numbers = range(first, first + count)
    table = pa.table(
        {
            "image": [{"bytes": png(n % 256, noise), "path": None} for n in numbers],
            "label": [f"c{n * 3 % CLASSES}" for n in numbers],
        }
    )
    parquet.write_table(table, path, row_group_size=group, compression="none")


def test_row_groups_are_pooled_in_their_order_and_end_class_after_class(tmp_path):
    write(tmp_path / "train-00000-of-00002.parquet", 40)
    write(tmp_path / "train-00001-of-00002.parquet", 23, first=40)
    write(tmp_path / "test.parquet", 37, first=63)
    dataset = load_dataset(tmp_path, inputs=SMALL)
    assert dataset.class_names == tuple(f"c{i}" for i in range(CLASSES))
    # Data splits come in the order train, test.
    greys = dataset.examples[:, 0, 0, 0].tolist()
    by_class = [[n for n in range(100) if n * 3 % CLASSES == c] for c in range(CLASSES)]
    assert greys == [number for numbers in by_class for number in numbers]
    only = load_dataset(tmp_path, inputs=SMALL, split="test", where={"label": ["c0", "c2"]})
    assert only.class_names == ("c0", "c2")
    expected = [n for c in (0, 2) for n in range(63, 100) if n * 3 % CLASSES == c]
    assert only.examples[:, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 39, 40, 41, 62, 63, 70])
def test_a_column_is_read_from_any_row_on(tmp_path, start):
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write(files[0], 40)
    write(files[1], 23, first=40)
    table = ParquetTable([str(file) for file in files])
    assert len(table) == 63
    labels = [value for piece in table.pieces("label", start) for value in piece.to_pylist()]
    assert labels == [f"c{n * 3 % CLASSES}" for n in range(start, 63)]


def test_values_are_numbered_as_they_appear_and_gaps_are_minus_one(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"x": ["b", None, "a", "b"]}), path, row_group_size=2)
    values, numbers = codes([ParquetTable([str(path)])] * 2, "x")
    assert values == ["b", "a"]
    assert numbers.tolist() == [0, -1, 1, 0] * 2
    assert first_values(ParquetTable([str(path)]), "x", 3) == ["b", None, "a"]


def test_the_bytes_of_all_images_are_never_in_memory_at_once(tmp_path):
    total, each = 1500, 100_000
    write(tmp_path / "train.parquet", total, noise=each, group=100)
    size = (tmp_path / "train.parquet").stat().st_size
    assert size > total * each
    pa.default_memory_pool().release_unused()
    tracemalloc.start()
    arrow_before = pa.total_allocated_bytes()
    source = LocalRepository(list_folder(tmp_path), columns=Columns())
    most_of_arrow = 0
    with source.read("image") as raw:
        assert sum(raw.sizes) == total
        count = 0
        for _, content in raw.rows(0):
            count += len(content) > each
            most_of_arrow = max(most_of_arrow, pa.total_allocated_bytes() - arrow_before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == total
    # A piece is 64 images of 0.1 MB; a whole row group of 10 MB would still pass, the file not.
    assert peak < 30 * 2**20
    assert most_of_arrow < 40 * 2**20


def test_a_row_group_that_is_damaged_is_said_with_the_file(tmp_path):
    path = tmp_path / "train.parquet"
    write(path, 50)
    content = bytearray(path.read_bytes())
    content[20:60] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read|damaged"):
        load_dataset(tmp_path, inputs=SMALL)


def test_a_class_number_without_a_name_is_refused(tmp_path):
    features = {"label": {"names": ["one", "two"], "_type": "ClassLabel"}}
    schema = pa.schema({"text": pa.string(), "label": pa.int64()})
    about = json.dumps(
        {"info": {"features": features | {"text": {"dtype": "string", "_type": "Value"}}}}
    )
    schema = schema.with_metadata({"huggingface": about})
    table = pa.table({"text": ["a", "b", "c"], "label": [0, 1, 2]}, schema=schema)
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="holds the class number 2, but names only 2 classes"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside.png"])
def test_a_table_cannot_name_files_outside_its_folder(tmp_path, path):
    (tmp_path / "outside.png").write_bytes(png(1))
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"bytes": None, "path": path}, {"bytes": png(1), "path": None}]
    parquet.write_table(pa.table({"image": rows, "label": ["a", "b"]}), folder / "train.parquet")
    with pytest.raises(ValueError, match="which is not inside"):
        load_dataset(folder, inputs=SMALL)


def test_a_file_that_asks_for_more_memory_than_there_is(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a", "b"], "label": ["x", "y"]}), path)

    def asks(self, *_, **__):
        raise pa.lib.ArrowMemoryError("malloc of size 2147483648 failed")

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", asks)
    with pytest.raises(ValueError, match=r"a\.parquet is damaged.*malloc"):
        load_dataset(path)
