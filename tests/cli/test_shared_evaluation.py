import json
import os
import subprocess
import sys

import torch

from ..conftest import HANG
from .conftest import TINY


def test_two_processes_write_the_report_of_one(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    code, _, err = quickstudy("train", "--data", pictures, *TINY, "--out", run)
    assert code == 0, err
    words = ["evaluate", run, "--ways", 3, "--queries", 3, "--episodes", 50, "--report"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two have
    code, out, err = quickstudy(*words, tmp_path / "one.json")
    torch.set_num_threads(threads)
    assert code == 0, err
    words = [*words, tmp_path / "two.json", "--devices", 2]
    done = subprocess.run(
        [sys.executable, "-m", "quickstudy", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy") == out.count("accuracy") == 1, "one rank prints"
    one, two = (
        {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith("seconds")}
        for path in (tmp_path / "one.json", tmp_path / "two.json")
    )
    assert one == two


def test_devices_that_make_no_sense(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    quickstudy("train", "--data", pictures, *TINY, "--out", run)
    code, _, err = quickstudy("evaluate", run, "--devices", 0)
    assert (code, "at least 1 is needed" in err) == (2, True)
    code, _, err = quickstudy("evaluate", run, "--devices", 2, "--device", "cuda:1")
    assert (code, "for 2 devices say cuda" in err) == (2, True)
    code, _, err = quickstudy("evaluate", run, "--devices", 2, "--device", "nosuch")
    assert (code, "nosuch" in err) == (1, True)
