"""One, two and four processes: the same training and the same evaluation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from quickstudy.compute.ranks import LostContactError, _talking, check_started, gathered
from quickstudy.compute.ranks import gathered_rows as rows_of_ranks
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.training import Trainer

from ..conftest import HANG
from . import ranks_at_work as work

ROOT = Path(__file__).parents[2]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """How a product of matrices is added up may depend on the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(one_thread, tmp_path_factory):
    """What one process does."""
    folder = tmp_path_factory.mktemp("one")
    work.train("prototypes", 1, folder / "begun by one", steps=work.STEPS // 2)
    work.main(1, folder)
    return folder


@pytest.fixture(scope="module", params=[2, 4], ids=["two by devices", "four by torchrun"])
def several(request, one_thread, tmp_path_factory):
    """What several do, started both ways."""
    folder = tmp_path_factory.mktemp("several")
    work.train("prototypes", 1, folder / "begun by one", steps=work.STEPS // 2)
    command = [sys.executable, "-m", *(TORCHRUN if request.param == 4 else [])]
    command += ["tests.compute.ranks_at_work", str(request.param), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    return folder


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("case", work.CASES)
def test_the_number_of_processes_changes_a_run_by_rounding(alone, several, case):
    expected, found = (result(folder)["losses"][case] for folder in (alone, several))
    assert len(found) == work.STEPS
    # Gradients are added up in float64, without rounding as a rule; one number in many that is
    # rounded after all is off by a relative 1e-7, and training grows that.
    assert found == pytest.approx(expected, rel=1e-6)
    expected, found = (load_file(folder / f"{case}.safetensors") for folder in (alone, several))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert result(several)["between ranks"][case] == 0


def test_meta_validation_chooses_the_same_step(alone, several):
    for case, (step, accuracy) in result(alone)["best"].items():
        assert result(several)["best"][case] == [step, accuracy]


@pytest.mark.parametrize("resumed", ["begun by one", "begun by several"])
def test_a_run_goes_on_with_another_number_of_processes(alone, several, resumed):
    if resumed == "begun by several":
        work.train("prototypes", 1, several / resumed, resume=True)
    expected, found = (
        Checkpoint.load(run / "checkpoints" / "last.safetensors")
        for run in (alone / "begun by one", several / resumed)
    )
    assert found.progress["step"] == expected.progress["step"] == work.STEPS
    for name, tensor in expected.model.items():
        torch.testing.assert_close(found.model[name], tensor, rtol=1e-5, atol=1e-6)
    losses = [row["loss"] for row in found.history]
    assert losses == pytest.approx([row["loss"] for row in expected.history], rel=1e-6)


def test_ranks_agree_when_the_time_is_over(several):
    steps = result(several)["timed steps"]
    assert len(steps) > 1
    assert len(set(steps)) == 1
    assert steps[0] > 1


@pytest.mark.parametrize("case", work.EVALUATIONS)
def test_a_shared_evaluation_is_that_of_one_process_to_the_bit(alone, several, case):
    assert result(several)["reports"][case] == result(alone)["reports"][case]
    (numbers, accuracies) = result(alone)["reports"][case]
    assert len(accuracies) == numbers["episodes"]
    assert 0 < numbers["accuracy"]["mean"] < 1


def test_a_process_by_itself_is_a_rank_too():
    parts = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    assert gathered(parts, "cpu").tolist() == [1, 2, 3]
    assert rows_of_ranks(torch.eye(3), 3, 2).tolist() == torch.eye(3).tolist()
    check_started(2)


def test_processes_that_were_started_are_those_that_are_asked_for(parts, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started .* ask for 1. Say --devices"):
        Trainer(**work.SETTINGS, steps=1).fit(work.made(work.CASES["maml"][0]), parts["train"])


def test_errors_of_communication_are_said_to_be_that():
    match = "does not answer: Connection closed by peer"
    with pytest.raises(LostContactError, match=match), _talking():
        raise RuntimeError("Connection closed by peer")
