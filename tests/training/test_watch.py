"""A rank that fails or dies ends the others: the watching thread with a store in this process."""

import threading
import time

import pytest
from torch.distributed import HashStore, PrefixStore, distributed_c10d

from quickstudy.training import watch
from quickstudy.training.ranks import LostContactError
from quickstudy.training.watch import Watch

TICK = 0.01


@pytest.fixture
def ended(monkeypatch):
    """This process is rank 0 of two, and sets an event where it would end."""
    store, event = HashStore(), threading.Event()
    monkeypatch.setattr(distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(watch, "ranks", lambda: 2)
    monkeypatch.setattr(watch, "rank", lambda: 0)
    monkeypatch.setattr(watch, "barrier", lambda: None)
    monkeypatch.setattr(watch, "TICK_SECONDS", TICK)
    monkeypatch.setattr(watch, "GRACE_SECONDS", TICK)
    monkeypatch.setattr(watch.os, "_exit", lambda code: event.set())
    return event


class Other:
    """Rank 1, as far as the store knows."""

    def __init__(self, watching):
        self.store = watching.store
        self.alive = threading.Event()

    def beat(self):
        while not self.alive.wait(TICK):
            self.store.add("beat/1", 1)


def test_a_rank_that_beats_is_left_alone_and_one_that_is_silent_ends_all(ended, capsys):
    watching = Watch()
    other = Other(watching)
    thread = threading.Thread(target=other.beat)
    with watching:
        thread.start()
        time.sleep(3 * watch.SILENT_TICKS * TICK)
        assert not ended.is_set()
        other.alive.set()
        thread.join()
        assert ended.wait(30)
    assert (
        "Rank 1 gave no sign of life for 40 seconds. All processes end" in capsys.readouterr().err
    )


def test_the_error_of_another_rank_is_shown(ended, capsys):
    watching = Watch()
    with watching:
        watching.store.set("failure", "Rank 1 failed: ValueError: all too much")
        assert ended.wait(30)
    assert "quickstudy: Rank 1 failed: ValueError: all too much" in capsys.readouterr().err


def test_failures_of_an_earlier_time_are_over(ended):
    with pytest.raises(ZeroDivisionError), Watch():
        _ = 1 / 0
    with Watch():
        time.sleep(5 * TICK)
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


def test_without_the_store_rank_0_has_ended(ended, capsys, monkeypatch):
    def gone(*_):
        raise RuntimeError("Connection reset by peer")

    with Watch():
        monkeypatch.setattr(PrefixStore, "add", gone)
        assert ended.wait(30)
    assert "Rank 0 has ended" in capsys.readouterr().err


def test_a_process_by_itself_watches_nobody():
    before = threading.active_count()
    with Watch():
        assert threading.active_count() == before
