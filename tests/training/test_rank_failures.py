"""Real processes of which one fails: the others end within a minute, and nothing saved is lost."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from quickstudy.training.checkpoint import Checkpoint

FAILING = """
import os, signal, time
from pathlib import Path
import quickstudy
from quickstudy.training.ranks import rank

class Failing(quickstudy.PrototypicalNetwork):
    calls = 0

    def loss(self, episode):
        self.calls += 1
        Path(f"process{rank()}").write_text(str(os.getpid()))
        if self.calls == 9 and rank() == int(os.environ["FAILING_RANK"]):
            Path("failed").touch()
            if os.environ["FAILING_HOW"] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("all too much")
        return super().loss(episode)
"""
OPTIONS = [
    "-m", "quickstudy", "train", "--data", "glyphs", "--strategy", "failing.Failing", "--encoder",
    "MLP", "--encoder.hidden", "[8]", "--ways", "3", "--queries", "2", "--tasks", "2", "--steps",
    "100000", "--validation_part", "null", "--checkpoint_every", "4", "--devices", "2",
    "--accelerator", "cpu", "--out", "run",
]  # fmt: skip
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def started():
    """The processes that a test starts, so that none is left when it fails."""
    processes = []
    yield processes
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def start(started, folder, launch, rank, how):
    (folder / "failing.py").write_text(FAILING)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FAILING_RANK": rank, "FAILING_HOW": how}
    command = [sys.executable, *(TORCHRUN if launch == "torchrun" else []), *OPTIONS]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    started.append(process)
    return process


def last_step(folder):
    last = Checkpoint.load(folder / "run" / "checkpoints" / "last.safetensors")
    return last.progress["step"]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("launch", "rank", "how"),
    [
        ("devices", "1", "killed"),
        ("devices", "0", "raises"),
        ("torchrun", "1", "raises"),
        ("torchrun", "0", "killed"),
    ],
)
def test_a_rank_that_fails_ends_the_others(started, tmp_path, launch, rank, how):
    process = start(started, tmp_path, launch, rank, how)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode != 0
    assert (tmp_path / "failed").exists(), errors
    processes = [int(path.read_text()) for path in tmp_path.glob("process?")]
    assert len(processes) == 2
    failed = (tmp_path / "failed").stat().st_mtime
    while any(map(is_alive, processes)) and time.time() < failed + 60:
        time.sleep(0.1)
    assert not any(map(is_alive, processes)), errors
    assert time.time() < failed + 60
    if how == "raises":
        assert "RuntimeError: all too much" in errors
    else:  # whoever notices first says it: a rank, Fabric or torchrun
        said = ("did not say why: it was killed", "terminated with code -9", "Signal 9", "exitcode")
        assert any(words in errors for words in said), errors
    assert last_step(tmp_path) == 8


def test_ctrl_c_stops_all_ranks_together(started, tmp_path):
    process = start(started, tmp_path, "devices", "2", "never")
    checkpoint = tmp_path / "run" / "checkpoints" / "previous.safetensors"
    while not checkpoint.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert f"Stopped after step {last_step(tmp_path)}." in errors
