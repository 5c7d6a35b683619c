"""Real processes of which one fails: the others end too, and nothing saved is lost."""

import os
import signal
import time
from pathlib import Path

import pytest

from quickstudy.compute import watch
from quickstudy.runs.checkpoint import Checkpoint

from ..conftest import HANG, wait_until

FAILING = """
import os, signal
from pathlib import Path
import quickstudy
from quickstudy.training.loop import TrainingLoop
from quickstudy.compute.ranks import rank

class Failing(quickstudy.strategies.PrototypicalNetwork):
    pass

step_of = TrainingLoop._step

def step(self, seconds):
    Path(f"process{rank()}").write_text(str(os.getpid()))
    if self.progress["step"] == 8 and rank() == int(os.environ["FAILING_RANK"]):
        Path("failed").touch()
        if os.environ["FAILING_HOW"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("all too much")
    step_of(self, seconds)

TrainingLoop._step = step
"""
OPTIONS = [
    "-m", "quickstudy", "train", "--data", "glyphs", "--strategy", "failing.Failing", "--encoder",
    "MLP", "--encoder.hidden", "[8]", "--ways", "3", "--queries", "2", "--tasks", "2", "--steps",
    "100000", "--validation-split", "null", "--checkpoint_every", "4", "--devices", "2",
    "--accelerator", "cpu", "--out", "run",
]  # fmt: skip
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def start(start_python, tmp_path):
    def start(launch, rank, how):
        (tmp_path / "failing.py").write_text(FAILING)
        return start_python(
            *(TORCHRUN if launch == "torchrun" else []), *OPTIONS, cwd=tmp_path, stdout=None,
            environment={"FAILING_RANK": rank, "FAILING_HOW": how},
        )  # fmt: skip

    return start


def last_step(folder):
    last = Checkpoint.load(folder / "run" / "checkpoints" / "last.safetensors")
    return last.progress["step"]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    about = Path(f"/proc/{process}/stat")  # of one that nobody has waited for it says so
    return not (about.exists() and about.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize(
    ("launch", "rank", "how"),
    [
        ("devices", "1", "killed"),
        ("devices", "0", "raises"),
        ("torchrun", "1", "raises"),
        ("torchrun", "0", "killed"),
    ],
)
def test_a_rank_that_fails_ends_the_others(start, tmp_path, launch, rank, how):
    process = start(launch, rank, how)
    errors = process.communicate(timeout=HANG)[1]
    assert process.returncode != 0
    assert (tmp_path / "failed").exists(), errors
    processes = [int(path.read_text()) for path in tmp_path.glob("process?")]
    assert len(processes) == 2
    while any(map(is_alive, processes)):
        time.sleep(0.1)
    if how == "raises":
        assert "RuntimeError: all too much" in errors
    else:  # whoever notices first says it: a rank, Fabric or torchrun
        said = ("did not say why: it was killed", "terminated with code -9", "Signal 9", "exitcode")
        assert any(words in errors for words in said), errors
    assert last_step(tmp_path) == 8


def test_ranks_miss_a_dead_one_within_a_minute():
    assert watch.TICK_SECONDS * watch.SILENT_TICKS + watch.GRACE_SECONDS < 60


def test_ctrl_c_stops_all_ranks_together(start, tmp_path):
    process = start("devices", "2", "never")
    wait_until((tmp_path / "run" / "checkpoints" / "previous.safetensors").exists, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130, errors
    assert f"Stopped after step {last_step(tmp_path)}." in errors
