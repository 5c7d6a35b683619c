import csv
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.runs.run import RunDirectory

from ..conftest import HANG, wait_until
from .conftest import TINY


def model_of(run):
    return Checkpoint.load(run / "checkpoints" / "last.safetensors").model


def rows_of(run):
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_train_then_evaluate(quickstudy, pictures, tmp_path):
    run, report = tmp_path / "run", tmp_path / "report.json"
    code, _, err = quickstudy("train", "--data", pictures, *TINY, "--out", run)
    assert code == 0, err
    assert str(run) in err
    code, out, err = quickstudy(
        "evaluate",
        run,
        "--ways",
        4,
        "--shots",
        2,
        "--queries",
        3,
        "--episodes",
        30,
        "--report",
        report,
    )
    assert code == 0, err
    assert "4-way 2-shot" in out
    found = json.loads(report.read_text())
    assert found["accuracy"]["mean"] > 0.25
    assert found["accuracy"]["ci95"] > 0
    expected = {"ways": 4, "shots": 2, "queries": 3, "episodes": 30, "transductive": False}
    assert found.items() >= expected.items()
    assert {"ece", "nll", "seconds"} <= found.keys()


def test_evaluate_on_other_data_of_the_same_kind(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    quickstudy("train", "--data", pictures, *TINY, "--out", run)
    code, out, err = quickstudy(
        "evaluate", run, "--data", "glyphs", "--ways", 3, "--queries", 3, "--episodes", 10
    )
    assert code == 0, err
    assert "glyphs/test" in out


def test_evaluate_on_unbalanced_queries(quickstudy, pictures, tmp_path):
    run, report = tmp_path / "run", tmp_path / "report.json"
    quickstudy("train", "--data", pictures, *TINY, "--out", run)
    words = ["--ways", 3, "--queries", 2, "--episodes", 10, "--report", report]
    code, out, err = quickstudy("evaluate", run, *words, "--query_balance", "dirichlet")
    assert code == 0, err
    assert "unbalanced queries" in out
    assert json.loads(report.read_text())["query_balance"] == "dirichlet"
    code, _, err = quickstudy("evaluate", run, *words, "--query_balance", "even")
    assert code != 0
    assert "query-balance" in err


def test_config_repeats_the_run(quickstudy, pictures, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    quickstudy("train", "--data", pictures, *TINY, "--out", first)
    code, _, err = quickstudy("train", "--config", first / "config.yaml", "--out", second)
    assert code == 0, err
    assert rows_of(first) == rows_of(second)
    a, b = model_of(first), model_of(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_print_config_is_a_config(quickstudy, pictures, tmp_path):
    code, out, _ = quickstudy("train", "--data", pictures, *TINY, "--print_config")
    assert code == 0
    assert yaml.safe_load(out)["encoder"]["init_args"]["hidden"] == [16]


def test_every_parameter_is_reachable(quickstudy):
    code, out, _ = quickstudy(
        "train", "--strategy", "MAML", "--strategy.inner_steps", 3, "--strategy.first_order",
        "true", "--encoder", "Conv4", "--encoder.channels", 32, "--print_config",
    )  # fmt: skip
    assert code == 0
    config = yaml.safe_load(out)
    assert config["strategy"]["init_args"]["inner_steps"] == 3
    assert config["strategy"]["init_args"]["first_order"] is True
    assert config["encoder"]["init_args"]["channels"] == 32


@pytest.fixture
def in_a_process(start_python):
    """Starts a command in a process of its own."""

    def start(*words, **more):
        return start_python("-m", "quickstudy", *words, **more)

    return start


def finished(process):
    """Waits for the end of a process that is to end well."""
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err


MORTAL = """
import itertools, os, signal
import quickstudy

calls = itertools.count(1)

class Mortal(quickstudy.strategies.PrototypicalNetwork):
    def loss(self, episode):
        if next(calls) == int(os.environ.get("DIES_IN", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(episode)
"""


def test_killed_run_resumes_to_the_same_weights(in_a_process, pictures, tmp_path):
    """SIGKILL in two steps, resumed each time, against a run left alone."""
    (tmp_path / "mortal.py").write_text(MORTAL)
    options = [*TINY, "--data", pictures, "--strategy", "mortal.Mortal", "--steps", 60]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished(in_a_process("train", *options, "--out", whole, cwd=tmp_path))
    words = [*options, "--out", killed]
    begun = [0]
    for _ in range(2):
        process = in_a_process("train", *words, cwd=tmp_path, environment={"DIES_IN": "41"})
        _, err = process.communicate(timeout=HANG)
        assert process.returncode == -signal.SIGKILL, err
        begun.append(RunDirectory(killed).newest().progress["step"])
        words = ["--resume", killed, "--trust", "mortal.Mortal"]
    assert begun == sorted(set(begun)), "each time it went on from where it was"
    finished(in_a_process("train", *words, cwd=tmp_path))
    assert rows_of(killed) == rows_of(whole)
    expected, found = model_of(whole), model_of(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_ctrl_c_saves_and_the_run_goes_on(in_a_process, pictures, tmp_path):
    run = tmp_path / "run"
    process = in_a_process("train", *TINY, "--data", pictures, "--steps", 100000, "--out", run)
    wait_until((run / "checkpoints" / "last.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 130
    stopped = Checkpoint.load(run / "checkpoints" / "last.safetensors").progress["step"]
    assert f"Stopped after step {stopped}." in err


@pytest.mark.parametrize("launch", ["devices", "torchrun"])
def test_two_processes_give_the_curve_of_one(
    in_a_process, start_python, pictures, tmp_path, launch
):
    options = [
        *TINY,
        "--data",
        pictures,
        "--encoder",
        "Conv4",  # whose running averages the ranks must share too
        "--encoder.channels",
        8,
        "--augmentation.degrees",
        10,
        "--accelerator",
        "cpu",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    finished(in_a_process("train", *options, "--out", one))
    if launch == "devices":
        process = in_a_process("train", *options, "--devices", 2, "--out", two)
    else:
        process = start_python(
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2,
            "-m", "quickstudy", "train", *options, "--devices", 2, "--out", two,
        )  # fmt: skip
    finished(process)
    rows = list(zip(rows_of(one), rows_of(two), strict=True))
    assert rows
    for a, b in rows:
        assert a["step"] == b["step"]
        # Sums of float32 gradients in another order: a relative 1e-7 a step, grown by training.
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-5)
    for name, tensor in model_of(one).items():
        torch.testing.assert_close(tensor, model_of(two)[name], rtol=1e-4, atol=1e-6)


def test_evaluation_is_on_the_test_classes_of_the_same_split(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    quickstudy("train", "--data", pictures, *TINY, "--split_seed", 7, "--out", run)
    few = ["--ways", 3, "--queries", 3, "--episodes", 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of classes seen in training, above all
        for words in ([], ["--data", pictures]):
            code, _, err = quickstudy("evaluate", run, *words, *few)
            assert code == 0, err
    with pytest.warns(UserWarning, match="does not measure how well it learns new ones"):
        quickstudy("evaluate", run, "--split_seed", 3, *few)
    code, _, err = quickstudy("evaluate", run, "--split", "nosuch", *few)
    assert code == 1
    assert "nosuch" in err


def test_maml_of_other_ways_than_five_validates_at_its_own(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    code, _, err = quickstudy(
        "train", "--data", pictures, *TINY, "--strategy", "MAML", "--ways", 6,
        "--split", "0.4,0.4,0.2", "--out", run,
    )  # fmt: skip
    assert code == 0, err
    assert "validation" in err


def test_changed_steps_are_written_down(quickstudy, pictures, tmp_path):
    run = tmp_path / "run"
    quickstudy("train", "--data", pictures, *TINY, "--out", run)
    code, _, err = quickstudy("train", "--resume", run, "--steps", 15)
    assert code == 0, err
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == 15
    assert Checkpoint.load(run / "checkpoints" / "last.safetensors").progress["step"] == 15


def test_strategy_of_the_current_folder(pictures, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import quickstudy\n\n\nclass Mine(quickstudy.strategies.PrototypicalNetwork):\n    pass\n"
    )
    command = [sys.executable, str(Path(sys.executable).parent / "quickstudy"), "train"]
    words = ["--data", pictures, *TINY, "--strategy", "mine.Mine", "--out", tmp_path / "run"]
    done = subprocess.run(
        [*command, *map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


SHORT = [
    "--encoder", "MLP", "--encoder.hidden", "[8]", "--shots", "1", "--queries", "2", "--steps",
    "2", "--validation_episodes", "2",
]  # fmt: skip


def test_training_with_defaults_starts_where_validation_has_few_classes(
    quickstudy, pictures, tmp_path
):
    """3 of 16 classes, with 6 images each, are for validation, and 3 for the test."""
    words = ["--data", pictures, "--split", "0.6,0.2,0.2", *SHORT]
    few = pytest.warns(UserWarning, match="3 classes, so tasks have 3 ways and classes of 6 exam")
    with few:
        code, _, err = quickstudy("train", *words, "--out", tmp_path / "run")
    assert code == 0, err
    with few:
        code, out, err = quickstudy("evaluate", tmp_path / "run", "--episodes", 3)
    assert code == 0, err
    facts = dict(line.split("\t") for line in out.splitlines())
    assert (facts["protocol"], facts["queries"]) == ("3-way 1-shot", "5")
    code, _, err = quickstudy("evaluate", tmp_path / "run", "--episodes", 3, "--ways", 5)
    assert code != 0
    assert "only 3 classes" in " ".join(err.split())
    with pytest.warns(UserWarning, match="3 classes, so there is no validation"):
        code, _, err = quickstudy("train", *words, "--strategy", "MAML", "--out", tmp_path / "maml")
    assert code == 0, err
    with pytest.warns(UserWarning, match="3 classes, so tasks have 3 ways"):
        code, out, err = quickstudy(
            "compare", "PrototypicalNetwork", *words, "--episodes", 2, "--out", tmp_path / "compare"
        )
    assert code == 0, err
    assert "3-way 5-shot" in out


def test_ranges_of_ways_and_shots_are_typed_as_for_evaluation(quickstudy, pictures, tmp_path):
    words = ["--data", pictures, *SHORT, "--ways", "[2,4]", "--shots", "[1,2]"]
    code, _, err = quickstudy("train", *words, "--out", tmp_path / "run")
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["ways"], config["shots"]) == ([2, 4], [1, 2])
    code, _, err = quickstudy("train", "--resume", tmp_path / "run", "--steps", 4)
    assert code == 0, err
    code, _, err = quickstudy("train", *words, "--strategy", "MAML", "--out", tmp_path / "maml")
    assert code != 0
    assert "MAML has one output per class" in " ".join(err.split())
