"""Decoding that goes on where it was interrupted, in bounded memory."""

import os
import time
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from quickstudy.datasets.decoded import cache, shards
from quickstudy.datasets.decoded.cache import load_or_decode
from quickstudy.datasets.decoded.decoding import RawExamples
from quickstudy.inputs import FeatureInputs, UnreadableError

COUNT, WIDTH = 5000, 8


class Rows(FeatureInputs):
    """Vectors that count how often they are decoded; some cannot be."""

    decoded = 0
    bad: frozenset[int] = frozenset()

    def decode(self, raw):
        type(self).decoded += 1
        if raw in self.bad:
            raise UnreadableError(f"number {raw}")
        return torch.full((self.size,), float(raw))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def small_shards(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path))
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000 * WIDTH * 4)
    monkeypatch.setattr(Rows, "decoded", 0)
    monkeypatch.setattr(Rows, "bad", frozenset())
    return tmp_path / "datasets"


CLASSES = np.random.default_rng(0).integers(0, 7, COUNT).astype(np.int32)
IN_ORDER = np.argsort(CLASSES, kind="stable")


def load(until=COUNT, unreadable="refuse"):
    """Rows whose classes are mixed; the process is killed at row ``until``."""

    def rows(start):
        for number in range(start, COUNT):
            if number == until:
                raise Killed
            yield f"Row {number}", number

    @contextmanager
    def read():
        sizes = np.bincount(CLASSES).tolist()
        yield RawExamples([f"c{i}" for i in range(7)], sizes, rows, {}, CLASSES)

    return load_or_decode("rows", {"version": 1}, Rows(WIDTH), read, unreadable)


def numbers(loaded):
    assert bool((loaded.examples == loaded.examples[:, :1]).all())
    return loaded.examples[:, 0].numpy().astype(int)


def parts(folder):
    return sorted(folder.glob(".*.parts/*"))


def test_rows_in_any_order_end_class_after_class_and_nothing_is_left_beside_them(small_shards):
    loaded = load()
    assert np.array_equal(numbers(loaded), IN_ORDER)
    assert loaded.sizes == np.bincount(CLASSES).tolist()
    assert [path.suffix for path in small_shards.iterdir()] == [".safetensors"]


def test_what_was_decoded_before_the_process_died_is_not_decoded_again(small_shards):
    with pytest.raises(Killed):
        load(until=3100)
    kept = len(parts(small_shards))
    assert kept >= 2
    before = Rows.decoded
    assert np.array_equal(numbers(load()), IN_ORDER)
    # All but the shard that was being filled, and the batch after it.
    assert Rows.decoded - before <= COUNT - kept * 1000
    assert not parts(small_shards)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_a_damaged_shard_and_those_after_it_are_decoded_again(small_shards, damage):
    with pytest.raises(Killed):
        load(until=4600)
    second = parts(small_shards)[1]
    content = bytearray(second.read_bytes())
    content[-5] ^= 1
    changed = {"flipped": content, "cut": content[:-100], "empty": b""}
    if damage == "missing":
        second.unlink()
    else:
        second.write_bytes(changed[damage])
    with pytest.warns(UserWarning, match="decoding continues before them"):
        loaded = load()
    assert np.array_equal(numbers(loaded), IN_ORDER)


def test_unreadable_examples_of_all_shards_are_counted_and_the_first_ones_named(monkeypatch):
    monkeypatch.setattr(Rows, "bad", frozenset(range(0, COUNT, 100)))
    with pytest.raises(UnreadableError, match="Row 0 of rows cannot be read"):
        load()
    with pytest.raises(Killed):
        load(until=4600, unreadable="skip")
    with pytest.warns(UserWarning, match=r"50 examples of rows .* Row 0, Row 100,.* and 40 more"):
        loaded = load(unreadable="skip")
    assert np.array_equal(numbers(loaded), IN_ORDER[IN_ORDER % 100 != 0])


def test_parts_that_nobody_took_up_again_go_after_a_month(small_shards, monkeypatch):
    old, new = small_shards / ".old.parts", small_shards / ".new.parts"
    for folder in (old, new):
        folder.mkdir(parents=True)
    now = time.time() + 31 * 24 * 3600
    monkeypatch.setattr(shards.time, "time", lambda: now)
    os.utime(new, (now, now))
    load()
    assert not old.exists()
    assert new.exists()


def test_decoding_takes_the_memory_of_a_shard_and_not_of_the_data(monkeypatch):
    count, width, shard = 20_000, 1024, 4 * 2**20
    monkeypatch.setattr(shards, "SHARD_BYTES", shard)
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", 1)
    classes = np.arange(count, dtype=np.int32) % 10

    @contextmanager
    def read():
        def rows(start):
            return ((f"Row {number}", number) for number in range(start, count))

        yield RawExamples([f"c{i}" for i in range(10)], [count // 10] * 10, rows, {}, classes)

    tracemalloc.start()
    loaded = load_or_decode("rows", {"version": 2}, Rows(width), read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert loaded.examples.nbytes == count * width * 4
    assert loaded.examples[1, 0] == 10  # the second of the first class is row 10
    # A shard, a copy of it while it is written, and 8 MiB blocks; the data are 80 MiB.
    assert peak < 36 * 2**20


def test_a_full_disk_is_said_and_what_was_decoded_stays(small_shards):
    """A limit on the size of files stands for a full disk: a shard is larger, the rest smaller."""
    resource = pytest.importorskip("resource")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with pytest.raises(Killed):
        load(until=3100)
    kept = len(parts(small_shards))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="no file may become so large here"):
            load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert len(parts(small_shards)) == kept
    assert np.array_equal(numbers(load()), IN_ORDER)
