"""Calls in processes of their own: results, errors, deaths."""

import math
import os

import pytest

from quickstudy.sweeps.executors import InProcess, Processes

DYING = """
import os, pathlib, signal

def dies_once(folder):
    marker = pathlib.Path(folder) / "been here"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"

def threads(_):
    return os.environ["OMP_NUM_THREADS"]

def unreadable(_):
    class Own(Exception):
        pass
    raise Own("of a class that nobody else knows")
"""


@pytest.fixture
def dying(tmp_path, monkeypatch):
    """A module that other processes find, as they find a user's strategies."""
    (tmp_path / "dying_calls.py").write_text(DYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    import dying_calls

    return dying_calls


@pytest.mark.parametrize("executor", [InProcess(), Processes(2)], ids=["here", "processes"])
def test_each_argument_gets_its_result_or_its_error(executor):
    found = dict(executor.run(math.sqrt, [4.0, -1.0, 9.0, 16.0]))
    assert (found[0], found[2], found[3]) == (2.0, 3.0, 4.0)
    assert isinstance(found[1], ValueError)
    assert "math domain" in str(found[1])


def test_nothing_to_do():
    assert list(Processes(2).run(math.sqrt, [])) == []


def test_a_call_whose_process_is_killed_is_begun_again(dying, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    found = dict(Processes(2).run(dying.dies_once, [str(folder) for folder in folders]))
    assert found == {0: "alive", 1: "alive"}


def test_a_call_that_always_dies_is_given_up_and_the_others_go_on():
    found = dict(Processes(1, retries=1).run(os._exit, [3]))
    assert "Gave up after 2 attempts" in str(found[0])
    assert "exit code 3" in str(found[0])


def test_processes_share_the_cores_and_errors_of_any_class_arrive(dying, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ((_, threads),) = Processes(2).run(dying.threads, [None])
    assert int(threads) == max(1, os.cpu_count() // 2)
    ((_, error),) = Processes(1).run(dying.unreadable, [None])
    assert str(error) == "Own: of a class that nobody else knows"
