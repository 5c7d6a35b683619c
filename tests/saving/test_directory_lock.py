"""One process at a time in a run directory."""

import multiprocessing
import os
import signal

import pytest

from quickstudy.saving.directory_lock import NAME, locked

from ..conftest import HANG


def hold(folder, connection):
    with locked(folder):
        connection.send("ready")
        connection.poll(None)  # until the other end says something or is closed


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock, and what ends it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(tmp_path, theirs))
    process.start()
    theirs.close()  # so that the pipe ends with the process
    assert ours.poll(HANG)
    yield process, ours
    process.kill()
    process.join(HANG)


def test_a_second_process_is_refused_and_the_first_is_named(tmp_path, other):
    process, ours = other
    named = rf"trained already by process {process.pid} on "
    with pytest.raises(ValueError, match=named), locked(tmp_path):
        pytest.fail("two were let in")
    ours.send("stop")
    process.join(HANG)
    with locked(tmp_path):
        assert (tmp_path / NAME).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_leaves_no_lock(tmp_path, other):
    process, _ = other
    os.kill(process.pid, signal.SIGKILL)
    process.join(HANG)
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_the_file(tmp_path):
    resource = pytest.importorskip("resource")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match=rf"{NAME} cannot be written"), locked(tmp_path):
            pytest.fail("it was written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert list(tmp_path.iterdir()) == []
