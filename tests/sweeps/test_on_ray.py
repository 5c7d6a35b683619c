"""Sweeps on a real Ray of this machine, which the tests start once."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.cli.main import main
from quickstudy.training.checkpoint import Checkpoint

STEPS = 900


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """16 classes of 6 noisy 8x8 PNGs, a sub-folder each."""
    root = tmp_path_factory.mktemp("data") / "pictures"
    generator = np.random.default_rng(0)
    for number in range(16):
        folder = root / f"thing{number:02}"
        folder.mkdir(parents=True)
        picture = generator.integers(0, 256, (8, 8, 3))
        for example in range(6):
            noisy = (picture + generator.integers(-90, 90, picture.shape)).clip(0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{example}.png")
    return root


def sweep(pictures, out, *words):
    """Eight tiny trials; returns the exit code."""
    options = [
        "learning_rate=1e-4,1e-3,1e-2,1e-1", "strategy=PrototypicalNetwork,MatchingNetwork",
        "--data", pictures, "--split", "0.5,0.25,0.25", "--encoder", "MLP",
        "--encoder.hidden", "[8]", "--ways", 3, "--queries", 2, "--steps", STEPS,
        "--validate_every", 300, "--validation_episodes", 10, "--validation_queries", 3,
        "--log_every", 50, "--checkpoint_every", 50, "--out", out, *words,
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["sweep", *map(str, options)])
    return ended.value.code or 0


def kill_one_half_way(out, killed):
    """Kills the process of the first trial that has done a third of its steps, and is known."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        for lock in out.glob("trials/*/.lock"):
            try:
                rows = (lock.parent / "metrics.csv").read_text().splitlines()
                step, process = int(rows[-1].partition(",")[0]), json.loads(lock.read_text())
            except (OSError, ValueError, IndexError):
                continue  # it has just begun or ended
            if STEPS // 3 <= step < STEPS * 2 // 3:
                os.kill(process["process"], signal.SIGKILL)
                killed.append((lock.parent.name, step))
                return
        time.sleep(0.005)


def results(out):
    rows = json.loads((out / "results.json").read_text())
    return [{k: v for k, v in row.items() if k not in ("seconds", "run")} for row in rows]


@pytest.mark.slow
def test_eight_trials_finish_though_a_worker_is_killed(ray, pictures, tmp_path, capsys):
    on_ray, here = tmp_path / "ray", tmp_path / "here"
    killed = []
    killer = threading.Thread(target=kill_one_half_way, args=(on_ray, killed))
    killer.start()
    assert sweep(pictures, on_ray, "--ray", "auto") == 0, capsys.readouterr().err
    killer.join()
    assert killed, "every trial was over before its process could be killed"
    rows = results(on_ray)
    assert len(rows) == 8
    assert {(row["state"], row["steps"]) for row in rows} == {("finished", STEPS)}
    (trial, step), log = killed[0], on_ray / "trials" / killed[0][0] / "output.log"
    resumed = [line for line in log.read_text().splitlines() if line.startswith("Resuming")]
    assert len(resumed) == 1, f"trial {trial}, killed after step {step}, was not resumed once"
    assert int(resumed[0].strip(".").rpartition(" ")[2]) >= step - 50

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a task with one CPU has
    try:
        assert sweep(pictures, here) == 0, capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
    assert results(here) == rows
    for name in (f"trials/{number:03}" for number in range(8)):
        expected, found = (
            Checkpoint.load(out / name / "checkpoints" / "last.safetensors").model
            for out in (here, on_ray)
        )
        assert all(torch.equal(expected[each], found[each]) for each in expected)


def test_a_trial_that_asks_for_more_than_the_cluster_has(ray, pictures, tmp_path, capsys):
    assert sweep(pictures, tmp_path / "out", "--ray", "auto", "--gpus", 64) == 1
    assert "64 GPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "cannot be reached"), ("nonsense", "is no address"), ("a:b", "no address")],
)
def test_an_address_where_no_ray_is(monkeypatch, pictures, tmp_path, capsys, address, said):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert sweep(pictures, tmp_path / "out", "--ray", address) == 1
    err = capsys.readouterr().err
    assert said in err
    assert address in err


def test_without_ray_the_extra_is_named(monkeypatch, pictures, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep(pictures, tmp_path / "out", "--ray", "local") == 1
    assert "pip install 'quickstudy[ray]'" in capsys.readouterr().err
