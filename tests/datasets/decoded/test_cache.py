"""The decoded cache: one file a data set, checked, mapped when large, never half written."""

import json
import multiprocessing
import os
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from quickstudy.datasets.decoded import cache, cache_folder
from quickstudy.datasets.decoded.cache import load_or_decode
from quickstudy.datasets.decoded.decoding import RawExamples
from quickstudy.inputs import ImageInputs, UnreadableError
from quickstudy.saving.files import atomically

from ...conftest import HANG

INPUTS = ImageInputs(size=6, channels=1)


class Raw:
    """Raw examples that count how often they are read; ``bad`` ones cannot be decoded."""

    def __init__(self, sizes=(3, 2), bad=()):
        self.sizes = sizes
        total = sum(sizes)
        self.images = np.random.default_rng(0).integers(0, 256, (total, 6, 6), dtype=np.uint8)
        self.bad = bad
        self.times_read = 0

    @contextmanager
    def read(self):
        self.times_read += 1
        names = [f"klass «{i}»" for i in range(len(self.sizes))]
        rows = [
            (f"Image {i}", b"broken" if i in self.bad else self.images[i])
            for i in range(sum(self.sizes))
        ]
        splits = {"mine": {"train": [names[0]], "test": names[1:]}}
        yield RawExamples(names, self.sizes, lambda start: rows[start:], splits)

    def load(self, name="some data", identity=None, inputs=INPUTS, **more):
        return load_or_decode(name, identity or {"version": 1}, inputs, self.read, **more)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path))
    return tmp_path / "datasets"


def only_file(folder):
    (path,) = [path for path in folder.iterdir() if path.is_file()]
    return path


def test_the_second_load_reads_what_the_first_wrote():
    raw = Raw()
    first, second = raw.load(), raw.load()
    assert raw.times_read == 1
    for loaded in (first, second):
        assert np.array_equal(loaded.examples[:, 0].numpy(), raw.images)
        assert loaded.sizes == [3, 2]
        assert loaded.class_names == ["klass «0»", "klass «1»"]
        assert loaded.class_splits == {"mine": {"train": ["klass «0»"], "test": ["klass «1»"]}}


def test_another_source_or_other_inputs_are_another_file(folder):
    raw = Raw()
    raw.load()
    raw.load(identity={"version": 2})
    raw.load(inputs=ImageInputs(size=4, channels=3))
    raw.load(inputs=ImageInputs(size=6, channels=1, invert=True))
    assert raw.times_read == len(list(folder.iterdir())) == 4


def test_the_file_is_an_ordinary_safetensors_file(folder):
    raw = Raw()
    raw.load()
    with safe_open(only_file(folder), framework="pt") as file:
        assert np.array_equal(file.get_tensor("examples")[:, 0].numpy(), raw.images)
        assert json.loads(file.metadata()["inputs"]) == INPUTS.to_dict()


def cut_short(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)


def without_anything(path):
    path.write_bytes(b"")


def with_another_pixel(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_another_header(path):
    content = bytearray(path.read_bytes())
    content[20:30] = b"?" * 10
    path.write_bytes(content)


def of_something_else(path):
    header = b'{"__metadata__": {"other": "1"}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def of_something_without_words(path):
    path.write_bytes(struct.pack("<Q", 2) + b"{}")


def with_another_class_name(path):
    path.write_bytes(path.read_bytes().replace(b"klass", b"clasp", 1))


@pytest.mark.parametrize(
    "damage",
    [
        with_another_class_name,
        cut_short,
        without_anything,
        with_another_pixel,
        with_another_header,
        of_something_else,
        of_something_without_words,
    ],
)
def test_a_damaged_file_is_noticed_and_made_again(folder, damage):
    raw = Raw()
    raw.load()
    damage(only_file(folder))
    with pytest.warns(UserWarning, match="are damaged"):
        again = raw.load()
    assert raw.times_read == 2
    assert np.array_equal(again.examples[:, 0].numpy(), raw.images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw.load()
    assert raw.times_read == 2


def test_large_data_are_mapped_and_equal(monkeypatch):
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", 1)
    raw = Raw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = raw.load().examples
    assert np.array_equal(mapped[:, 0].numpy(), raw.images)
    rows = mapped[torch.tensor([4, 0])]
    rows.zero_()  # a copy, as gathering makes: the file stays as it is
    assert np.array_equal(raw.load().examples[:, 0].numpy(), raw.images)


def test_large_data_are_not_read_while_loading(folder):
    raw = Raw()
    raw.load()
    path = only_file(folder)
    # The same file with far more examples, all of them holes that take no room on the disk.
    examples = 200_000_000  # of 36 bytes
    header = json.loads(path.read_bytes()[8 : 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]])
    header["__metadata__"]["sizes"] = json.dumps([examples - 2, 2])
    header["examples"] |= {
        "shape": [examples, 1, 6, 6],
        "data_offsets": [0, examples * 36],
    }
    about = {name: json.loads(value) for name, value in header["__metadata__"].items()}
    del about["seal"]
    key = path.stem.rpartition("-")[2]
    sealed = cache.seal(key, about, "U8", [examples, 1, 6, 6])
    header["__metadata__"]["seal"] = json.dumps(sealed)
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        try:
            file.truncate(file.tell() + examples * 36)
        except OSError:
            pytest.skip("This file system has no sparse files of 7 GB.")
    before = resident_bytes()
    loaded = raw.load()
    grown = resident_bytes() - before
    assert raw.times_read == 1
    assert loaded.examples.shape == (examples, 1, 6, 6)
    assert int(loaded.examples[-1].sum()) == 0
    # Reading 7 GB takes gigabytes.
    assert grown < 100 * 2**20


def resident_bytes():
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_unreadable_example_is_refused_by_name(folder):
    raw = Raw(bad={1})
    with pytest.raises(UnreadableError, match="Image 1 of some data cannot be read"):
        raw.load()
    assert not list(folder.iterdir())  # nothing half written is left


def test_unreadable_examples_are_skipped_and_named_each_time():
    raw = Raw(bad={1, 4})
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"2 examples of some data .* Image 1, Image 4"):
            loaded = raw.load(unreadable="skip")
        assert loaded.sizes == [2, 1]
        assert np.array_equal(loaded.examples[:, 0].numpy(), raw.images[[0, 2, 3]])
    assert raw.times_read == 1
    with pytest.raises(UnreadableError, match="Image 1, Image 4"):
        raw.load(unreadable="refuse")


def test_many_skipped_examples_are_counted():
    raw = Raw(sizes=(3000,), bad=set(range(0, 3000, 2)))
    with pytest.warns(UserWarning, match=r"1500 examples .* and 1490 more"):
        loaded = raw.load(unreadable="skip")
    assert np.array_equal(loaded.examples[:, 0].numpy(), raw.images[1::2])


def test_a_class_of_which_nothing_is_left_is_refused():
    with pytest.raises(ValueError, match="No example of class 'klass «1»'"):
        Raw(bad={3, 4}).load(unreadable="skip")


def _write_in_a_process(start, results):
    raw = Raw(sizes=(2000, 2000))
    start.wait()
    results.put(np.array_equal(raw.load().examples[:, 0].numpy(), raw.images))


def test_processes_that_write_at_once_all_end_with_the_whole_file(folder):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    start, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_write_in_a_process, args=(start, results)) for _ in "abc"]
    for worker in workers:
        worker.start()
    assert all(results.get(timeout=HANG) for _ in workers)
    for worker in workers:
        worker.join(HANG)
    assert only_file(folder).suffix == ".safetensors"


def test_temporary_files_of_dead_processes_are_removed(folder):
    folder.mkdir(parents=True)
    dead = folder / f".dead-{'0' * 32}.tmp"
    dead.write_bytes(b"half")
    with atomically(folder / "being-written") as alive:
        alive.write_bytes(b"half")
        Raw().load()
        assert not dead.exists()
        assert alive.exists()


def test_a_folder_that_cannot_be_written_is_said_and_does_not_stop_loading(tmp_path, monkeypatch):
    taken = tmp_path / "a file, not a folder"
    taken.write_text("")
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(taken))
    raw = Raw()
    with pytest.warns(UserWarning, match=r"cannot be kept in .* Name a folder in QUICKSTUDY_CACHE"):
        loaded = raw.load()
    assert np.array_equal(loaded.examples[:, 0].numpy(), raw.images)


def test_a_full_disk_is_said(monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_folder.os, "fsync", full)
    with pytest.raises(OSError, match=r"The disk is full.*QUICKSTUDY_CACHE"):
        Raw().load()


def test_the_cache_is_where_the_variable_says_or_the_user_keeps_caches(monkeypatch, tmp_path):
    assert cache_folder.cache_folder() == tmp_path / "datasets"
    monkeypatch.delenv("QUICKSTUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder.cache_folder().parts[-2:] == ("quickstudy", "datasets")
