"""A file that cannot grow ends a command in a sentence; the last good state stays.

A limit on the size of files stands for a full disk: the writing itself fails, part-way.
"""

import os
import subprocess
import sys

import pytest
import torch

from quickstudy.runs.run import RunDirectory

from ..conftest import HANG
from .conftest import TINY

resource = pytest.importorskip("resource")


def limited(size, *words):
    """Runs a command that may write no file larger than ``size``."""
    return subprocess.run(
        [sys.executable, "-m", "quickstudy", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


@pytest.mark.parametrize(("file", "steps", "log_every"), [("last", 60, 60), ("events", 1200, 1)])
def test_the_state_before_is_kept_and_the_run_goes_on(
    quickstudy, pictures, tmp_path, file, steps, log_every
):
    options = [
        "train", "--data", pictures, *TINY, "--encoder.hidden", "[1]", "--steps", steps,
        "--log_every", log_every, "--checkpoint_every", steps, "--validation-split", "null",
    ]  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert quickstudy(*options, "--out", whole)[0] == 0
    quickstudy(*options, "--steps", 1, "--out", tmp_path / "first")
    without_optimizer = RunDirectory(tmp_path / "first").previous.stat().st_size
    stopped = limited(without_optimizer + 4000, *options, "--out", run)
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    said = stopped.stderr.splitlines()[-1]
    assert f"{file}." in said
    assert "cannot be written: no file may become so large here" in said
    assert not list(run.rglob(".*"))
    assert quickstudy("evaluate", run, "--queries", 3, "--episodes", 5)[0] == 0
    assert quickstudy("train", "--resume", run)[0] == 0
    expected, found = (RunDirectory(each).newest().model for each in (whole, run))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
