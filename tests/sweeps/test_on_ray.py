"""Sweeps on a real Ray of this machine, which the tests start once."""

import json
import sys
import tempfile
import time
from contextlib import suppress

import pytest
import torch

from quickstudy.runs.checkpoint import Checkpoint

from ..builders import command
from ..conftest import HANG

STEPS, DIES_IN, SAVED_BEFORE = 200, 110, 100
"""Steps of a trial; the one in which a process dies, and the last that it has saved by then."""

MORTAL = f"""
import itertools, os, signal
from pathlib import Path
from quickstudy.strategies import MatchingNetwork

calls = itertools.count(1)

class Mortal(MatchingNetwork):
    def loss(self, episode):
        if next(calls) == {DIES_IN}:
            try:  # the first process to come here, and no other
                Path(__file__).with_name("died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return super().loss(episode)
"""

PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": HANG,
    "RAY_gcs_server_request_timeout_seconds": HANG,
    "RAY_gcs_rpc_server_connect_timeout_s": HANG,
    "RAY_gcs_rpc_server_reconnect_timeout_s": HANG,
    "RAY_py_gcs_connect_timeout_s": HANG,
    "RAY_agent_register_timeout_ms": 1000 * HANG,
    "RAY_raylet_client_num_connect_attempts": HANG,  # one a second
    "RAY_worker_register_timeout_seconds": HANG,
    "RAY_health_check_timeout_ms": 1000 * HANG,
    "RAY_memory_monitor_refresh_ms": 0,  # what else the machine does costs no worker its life
    "RAY_local_fs_capacity_threshold": 1,
    "RAY_USAGE_STATS_ENABLED": 0,
}
"""Ray's own limits of time take a busy machine for a broken one."""


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A folder with a strategy that other processes import, as they do a user's."""
    folder = tmp_path_factory.mktemp("mortal")
    (folder / "mortal.py").write_text(MORTAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("mortal", None)


@pytest.fixture(scope="module")
def ray(mortal):
    # Before ray is imported, which reads some of them. Sockets need a short path.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(mortal), prepend=":")
        for name, value in PATIENCE.items():
            patch.setenv(name, str(value))
        ray = pytest.importorskip("ray", reason="ray is not installed")
        from ray._private import services

        found = services.get_node

        def found_in_the_end(*arguments):
            """Ray waits 30 seconds for its own processes, which no variable changes."""
            for _ in range(HANG):
                with suppress(RuntimeError):
                    return found(*arguments)
                time.sleep(1)
            return found(*arguments)

        patch.setattr(services, "get_node", found_in_the_end)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        yield ray
        ray.shutdown()


def sweep(pictures, out, *words):
    """Eight tiny trials; returns the exit code."""
    options = [
        "learning_rate=1e-4,1e-3,1e-2,1e-1", "strategy=PrototypicalNetwork,mortal.Mortal",
        "--data", pictures, "--split", "0.5,0.25,0.25", "--encoder", "MLP",
        "--encoder.hidden", "[8]", "--ways", 3, "--queries", 2, "--tasks", 1, "--steps", STEPS,
        "--validate_every", 100, "--validation_episodes", 10, "--validation_queries", 3,
        "--log_every", 20, "--checkpoint_every", 20, "--out", out, *words,
    ]  # fmt: skip
    return command("sweep", *options)


def results(out):
    rows = json.loads((out / "results.json").read_text())
    return [{k: v for k, v in row.items() if k not in ("seconds", "run")} for row in rows]


@pytest.mark.slow
@pytest.mark.integration
def test_eight_trials_finish_though_a_worker_is_killed(ray, mortal, pictures, tmp_path, capsys):
    on_ray, here = tmp_path / "ray", tmp_path / "here"
    assert sweep(pictures, on_ray, "--ray", "auto") == 0, capsys.readouterr().err
    assert (mortal / "died").exists()
    rows = results(on_ray)
    assert len(rows) == 8
    assert {(row["state"], row["steps"]) for row in rows} == {("finished", STEPS)}
    logs = "".join(path.read_text() for path in on_ray.glob("trials/*/output.log"))
    resumed = [line for line in logs.splitlines() if line.startswith("Resuming")]
    assert resumed == [f"Resuming after step {SAVED_BEFORE}."]

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


@pytest.mark.integration
def test_a_trial_that_asks_for_more_than_the_cluster_has(ray, pictures, tmp_path, capsys):
    assert sweep(pictures, tmp_path / "out", "--ray", "auto", "--gpus", 64) == 1
    assert "64 GPUs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "cannot be reached"), ("nonsense", "is no address"), ("a:b", "no address")],
)
def test_an_address_where_no_ray_is(monkeypatch, mortal, pictures, tmp_path, capsys, address, said):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert sweep(pictures, tmp_path / "out", "--ray", address) == 1
    err = capsys.readouterr().err
    assert said in err
    assert address in err


def test_without_ray_the_extra_is_named(monkeypatch, mortal, pictures, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep(pictures, tmp_path / "out", "--ray", "local") == 1
    assert "pip install 'quickstudy[ray]'" in capsys.readouterr().err


def test_a_local_ray_that_does_not_start_in_its_time(
    monkeypatch, mortal, pictures, tmp_path, capsys
):
    """Ray says so by an error of no particular class."""
    ray = pytest.importorskip("ray", reason="ray is not installed")

    def init(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    assert sweep(pictures, tmp_path / "out", "--ray", "local") == 1
    err = capsys.readouterr().err
    assert "Ray cannot be reached at 'local': The current node timed out during startup." in err
