"""A rank that fails or dies ends the others: the watching thread with a store in this process."""

import threading

import pytest
from torch.distributed import HashStore, PrefixStore, distributed_c10d

from quickstudy.compute import watch
from quickstudy.compute.ranks import LostContactError
from quickstudy.compute.watch import Watch

from ..conftest import HANG


class Ticks(threading.Event):
    """Stands for the event that ends the watching: its seconds pass when the test says so."""

    def __init__(self):
        super().__init__()
        self.asked, self.passed = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self, timeout=None):
        self.asked.release()
        assert self.passed.acquire(timeout=HANG)
        return self.is_set()

    def set(self):
        super().set()
        self.passed.release()

    def tick(self, times, meanwhile=lambda: None):
        """Lets seconds pass, each when the watching thread has done all it does in one."""
        for _ in range(times):
            assert self.asked.acquire(timeout=HANG)
            meanwhile()
            self.passed.release()


@pytest.fixture
def ended(monkeypatch):
    """This process is rank 0 of two, and sets an event where it would end."""
    store, event = HashStore(), threading.Event()
    monkeypatch.setattr(distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(watch, "ranks", lambda: 2)
    monkeypatch.setattr(watch, "rank", lambda: 0)
    monkeypatch.setattr(watch, "barrier", lambda: None)
    monkeypatch.setattr(watch.os, "_exit", lambda code: event.set())
    return event


@pytest.fixture
def watching(ended):
    watching = Watch()
    watching.left = Ticks()
    return watching


def test_a_rank_that_beats_is_left_alone_and_one_that_is_silent_ends_all(watching, ended, caplog):
    ticks = watching.left
    with watching:
        ticks.tick(3 * watch.SILENT_TICKS, lambda: watching.store.add("beat/1", 1))
        ticks.tick(watch.SILENT_TICKS - 1)
        assert not ended.is_set()
        ticks.tick(2)  # the one too many, and the time of grace
        assert ended.wait(HANG)
    assert "Rank 1 gave no sign of life for 40 seconds. All processes end" in caplog.text


def test_the_error_of_another_rank_is_shown(watching, ended, caplog):
    with watching:
        watching.store.set("failure", "Rank 1 failed: ValueError: all too much")
        watching.left.tick(2)
        assert ended.wait(HANG)
    assert "Rank 1 failed: ValueError: all too much" in caplog.text


def test_failures_of_an_earlier_time_are_over(ended):
    with pytest.raises(ZeroDivisionError), Watch():
        _ = 1 / 0
    watching = Watch()
    watching.left = Ticks()
    with watching:
        watching.left.tick(5)
    watching.thread.join(HANG)
    assert not ended.is_set()


def test_what_fails_here_is_told_to_the_others(ended):
    watching = Watch()
    with pytest.raises(ZeroDivisionError), watching:
        _ = 1 / 0
    assert watching.store.get("failure") == b"Rank 0 failed: ZeroDivisionError: division by zero."


@pytest.mark.parametrize("told", ["Rank 1 failed: MemoryError: ", ""])
def test_a_sum_that_fails_says_why_the_other_has_ended(ended, told):
    watching = Watch()
    expected = told or "did not say why: it was killed"
    if told:
        watching.store.set("failure", told)
    with pytest.raises(LostContactError, match=expected), watching:
        raise LostContactError("Connection closed by peer")


def test_without_the_store_rank_0_has_ended(watching, ended, caplog, monkeypatch):
    def gone(*_):
        raise RuntimeError("Connection reset by peer")

    with watching:
        monkeypatch.setattr(PrefixStore, "add", gone)
        watching.left.tick(2)
        assert ended.wait(HANG)
    assert "Rank 0 has ended" in caplog.text


def test_a_process_by_itself_watches_nobody():
    before = set(threading.enumerate())
    with Watch():
        assert set(threading.enumerate()) <= before
