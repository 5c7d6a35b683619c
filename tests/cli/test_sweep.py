"""Sweeps through the command line: the table, resumption after kills, what is refused."""

import csv
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.saving.directory_lock import locked

from ..conftest import HANG, wait_until
from .conftest import TINY

ROOT = Path(__file__).parents[2]

MOMENTS = {"seconds", "run"}
"""What differs between two sweeps that found the same."""


def results(out):
    rows = json.loads((out / "results.json").read_text())
    return [{key: value for key, value in row.items() if key not in MOMENTS} for row in rows]


def model_of(run):
    return Checkpoint.load(run / "checkpoints" / "last.safetensors").model


@pytest.fixture
def config(pictures, tmp_path):
    """A sweep of four MAML and two prototypical networks in a YAML file."""
    path = tmp_path / "sweep.yaml"
    path.write_text(
        f"data: {pictures}\nsplit: [0.5, 0.25, 0.25]\n"
        "encoder:\n  class_path: MLP\n  init_args:\n    hidden: [16]\n"
        "ways: 3\nqueries: 2\ntasks: 2\nsteps: 12\nvalidate_every: 6\nvalidation_episodes: 10\n"
        "validation_queries: 3\nlog_every: 3\ncheckpoint_every: 3\n"
        "sweep:\n  learning_rate: [1e-3, 1e-2]\n  strategy: [PrototypicalNetwork, MAML]\n"
        "  strategy.init_args.inner_steps: [1, 5]\n"
    )
    return path


def test_a_grid_from_yaml_gives_a_table_and_a_run_for_each_trial(quickstudy, config, tmp_path):
    out = tmp_path / "out"
    code, printed, err = quickstudy("sweep", "--config", config, "--out", out)
    assert code == 0, err
    rows = results(out)
    values = [row["values"] for row in sorted(rows, key=lambda row: row["trial"])]
    assert values == [
        values
        for rate in (1e-3, 1e-2)
        for values in (
            {"learning_rate": rate, "strategy": "PrototypicalNetwork"},
            {"learning_rate": rate, "strategy": "MAML", "strategy.inner_steps": 1},
            {"learning_rate": rate, "strategy": "MAML", "strategy.inner_steps": 5},
        )
    ]
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(row["ci95"] > 0 and row["steps"] == 12 for row in rows)
    assert "ci95" in printed.splitlines()[0]
    best = out / "trials" / f"{rows[0]['trial']:03}"
    assert f"quickstudy evaluate {best}" in err
    last = out / "trials" / "005"  # an ordinary run
    assert yaml.safe_load((last / "config.yaml").read_text())["learning_rate"] == 1e-2
    saved = Checkpoint.load(last / "checkpoints" / "last.safetensors")
    assert saved.strategy["init_args"]["inner_steps"] == 5
    with (out / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows]
    assert [float(row["accuracy"]) for row in table] == accuracies
    code, printed, err = quickstudy("evaluate", best, "--ways", 3, "--queries", 3, "--episodes", 5)
    assert code == 0, err
    assert "pictures/test" in printed


def test_the_objective_is_that_of_the_best_checkpoint(quickstudy, config, tmp_path):
    out = tmp_path / "out"
    code, _, err = quickstudy("sweep", "--config", config, "--out", out)
    assert code == 0, err
    for row in results(out):
        best = out / "trials" / f"{row['trial']:03}" / "checkpoints" / "best.safetensors"
        progress = Checkpoint.load(best).progress
        assert (row["accuracy"], row["best_step"]) == (
            progress["best_accuracy"],
            progress["best_step"],
        )


def test_a_finished_sweep_trains_nothing_again_and_random_ones_may_grow(
    quickstudy, pictures, tmp_path
):
    out = tmp_path / "out"
    words = [
        "sweep", "learning_rate={log_uniform: [1e-4, 1e-2]}", "shots=1,2", "--data", pictures,
        *TINY, "--search", "random", "--out", out,
    ]  # fmt: skip
    code, _, err = quickstudy(*words, "--trials", 2)
    assert code == 0, err
    first = {row["trial"]: row for row in results(out)}
    written = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/checkpoints/*")}
    code, _, err = quickstudy(*words, "--trials", 3)
    assert code == 0, err
    assert len(results(out)) == 3
    assert all(row == first[row["trial"]] for row in results(out) if row["trial"] in first)
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    code, _, err = quickstudy(*words, "--trials", 3, "--steps", 15)
    assert code == 1
    assert "another sweep" in err
    assert "steps: 12, not 15" in err


def test_halving_promotes_trials_that_are_what_they_would_be_alone(quickstudy, config, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    halving = ["--search", "halving", "--eta", 2, "--schedule", "cosine"]
    code, _, err = quickstudy("sweep", "--config", config, "--out", out, *halving)
    assert code == 0, err
    rows = results(out)
    assert [row["steps"] for row in rows] == [12, 6, 6, 3, 3, 3]
    assert [row["state"] for row in rows] == ["finished"] + ["left"] * 5
    best = out / "trials" / f"{rows[0]['trial']:03}"
    code, _, err = quickstudy("train", "--config", best / "config.yaml", "--out", alone)
    assert code == 0, err
    expected, found = model_of(alone), model_of(best)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    # What was left can be gone on with by hand, and is then what it would be alone too.
    left = out / "trials" / f"{rows[-1]['trial']:03}"
    code, _, err = quickstudy("train", "--resume", left)
    assert code == 0, err
    assert Checkpoint.load(left / "checkpoints" / "last.safetensors").progress["step"] == 12
    before = rows
    code, _, err = quickstudy("sweep", "--config", config, "--out", out, *halving)
    assert code == 0, err
    assert results(out) == before  # as they stood at their rungs


def test_a_second_sweep_in_one_folder_is_refused(quickstudy, pictures, tmp_path):
    words = ["sweep", "learning_rate=0.1,0.2", "--data", pictures, *TINY, "--out", tmp_path / "out"]
    with locked(tmp_path / "out"):
        code, _, err = quickstudy(*words)
    assert code == 1
    assert f"already by process {os.getpid()}" in err
    assert not (tmp_path / "out" / "trials").exists()
    assert quickstudy(*words)[0] == 0


@pytest.mark.parametrize("content", ["[1, 2]", "a: !!bool x", "abc", "a: [", ""])
def test_a_damaged_sweep_is_said(quickstudy, pictures, tmp_path, content):
    (tmp_path / "sweep.yaml").write_text(content)
    words = ["sweep", "learning_rate=0.1,0.2", "--data", pictures, *TINY, "--out", tmp_path]
    code, _, err = quickstudy(*words)
    assert code == 1
    assert "sweep.yaml" in err


def test_a_trial_that_fails_is_a_row_with_its_error(quickstudy, pictures, tmp_path):
    out = tmp_path / "out"
    words = ["--data", pictures, *TINY, "--out", out]
    code, _, err = quickstudy("sweep", "learning_rate=1e30,0.001", "shots=1,9", *words)
    assert code == 0, err
    rows = {row["trial"]: row for row in results(out)}
    assert [rows[n]["state"] for n in range(4)] == ["failed", "failed", "finished", "failed"]
    assert "not finite in step" in rows[0]["error"]
    assert "9 shots" in rows[1]["error"]
    assert "Trial 003 failed" in err
    code, _, err = quickstudy("sweep", "shots=9,10", *words[:-1], tmp_path / "none")
    assert code == 1
    assert "every trial failed" in err


PAUSING = """
import itertools, os, time
from pathlib import Path
import quickstudy

calls = itertools.count(1)

class Pausing(quickstudy.strategies.PrototypicalNetwork):
    def loss(self, episode):
        if next(calls) == int(os.environ["PAUSES_IN"]):
            here = Path(os.environ["PAUSES"])
            (here / str(os.getpid())).touch()
            while not (here / "go on").exists():
                time.sleep(0.01)
        return super().loss(episode)
"""


@pytest.mark.slow
def test_killed_and_interrupted_the_sweep_ends_as_if_left_alone(start_python, pictures, tmp_path):
    """SIGKILL in the first start, Ctrl-C in the second; two processes, against one."""
    whole, stopped, said = tmp_path / "whole", tmp_path / "stopped", tmp_path / "said.txt"
    (tmp_path / "pausing.py").write_text(PAUSING)
    options = [
        "learning_rate=1e-3,1e-2,1e-1", "--data", pictures, *TINY, "--strategy", "pausing.Pausing",
        "--steps", 100, "--validate_every", 50, "--log_every", 5, "--checkpoint_every", 5,
    ]  # fmt: skip

    def sweep(*more, pauses=None, **streams):
        """Starts the sweep; waits until both of its processes pause, if they do."""
        path = os.pathsep.join([str(tmp_path), *sys.path])
        environment = {"PYTHONPATH": path, "PAUSES_IN": "35" if pauses else "0"}
        if pauses:
            pauses.mkdir()
            environment["PAUSES"] = str(pauses)
        words = ["-m", "quickstudy", "sweep", *options, *more]
        process = start_python(*words, environment=environment, **streams)
        if pauses:
            wait_until(lambda: len(list(pauses.iterdir())) == 2, process)
        return process

    process = sweep("--out", whole)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err

    words = ["--out", stopped, "--jobs", 2]
    process = sweep(*words, pauses=tmp_path / "first pause")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG)  # ends when its children have ended too: they hold the pipes
    with said.open("w") as file:
        process = sweep(*words, pauses=tmp_path / "second pause", stderr=file)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: said.read_text().count("Stopping after this step") == 2, process)
        (tmp_path / "second pause" / "go on").touch()
        process.communicate(timeout=HANG)
    assert process.returncode == 130, said.read_text()
    assert "Run the same command again" in said.read_text()
    assert "Traceback" not in said.read_text()
    steps = [
        Checkpoint.load(path).progress["step"]
        for path in stopped.glob("trials/*/checkpoints/last.safetensors")
    ]
    assert len(steps) == 2
    assert max(steps) < 100
    process = sweep(*words)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    assert results(stopped) == results(whole)
    for trial in (f"trials/{number:03}" for number in range(3)):
        expected, found = model_of(whole / trial), model_of(stopped / trial)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    logs = "".join(path.read_text() for path in stopped.glob("trials/*/output.log"))
    assert logs.count("Resuming after step") == 4  # two trials, twice


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "varies nothing"),
        (["learning_rat=1,2"], "Did you mean 'learning_rate'"),
        (["learning_rate="], "names no values"),
        (["learning_rate"], "names no values"),
        (["learning_rate={normal: [0, 1]}"], "learning_rate"),
        (["learning_rate={uniform: [0, 1]}"], "learning_rate has a range"),
        (["learning_rate=fast"], "--learning-rate is 'fast'"),
        (["learning_rate=[1"], "is not readable YAML"),
        (["strategy.inner_stepz=1,2", "strategy=MAML"], "no argument of any strategy"),
        (["strategy=MAMLL"], "MAMLL"),
        (["shots=1,2", "--trials", 3], "does not go with it"),
        (["shots=1,2", "--search", "random"], "--trials 20"),
        (["shots=1,2", "--search", "random", "--trials", 0], "at least 1"),
        (["shots=1,2", "--search", "halving", "--max-minutes", 1], "--max-minutes"),
        (["steps=1,2", "--search", "halving"], "cannot vary steps"),
        (["shots=1,2", "--search", "halving", "--eta", 1], "eta is 1"),
        (["shots=1,2", "--validation-split", "null"], "--validation-split"),
        (["shots=1,2", "--devices", 2], "one process"),
        (["shots=1,2", "--jobs", 0], "at least one job"),
        (["shots=1,2", "--jobs", 2, "--ray", "local"], "not both"),
    ],
)
def test_what_makes_no_sweep_is_refused_before_anything_is_trained(
    quickstudy, pictures, tmp_path, words, said
):
    options = [word for word in words if str(word).find("=") > 0 and not str(word).startswith("-")]
    rest = [word for word in words if word not in options]
    if words == ["learning_rate"]:
        options, rest = words, []
    code, _, err = quickstudy(
        "sweep", *options, "--data", pictures, *TINY, "--out", tmp_path / "out", *rest
    )
    assert code in (1, 2)
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_compare_on_several_processes_finds_what_it_finds_on_one(quickstudy, pictures, tmp_path):
    found = []
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, jobs in (("one", 1), ("two", 2)):
        words = ["--data", pictures, *TINY, "--test_shots", "[1,2]", "--test_queries", 3]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            code, out, err = quickstudy(
                "compare", "PrototypicalNetwork", "MAML", *words, "--episodes", 20,
                "--out", tmp_path / name, "--jobs", jobs,
            )  # fmt: skip
        assert code == 0, err
        assert "3-way 2-shot" in out
        results = json.loads((tmp_path / name / "comparison.json").read_text())
        found.append(
            [
                [result["name"], result["steps"], [r["accuracy"] for r in result["reports"]]]
                for result in results
            ]
        )
    torch.set_num_threads(torch_threads)
    assert found[0] == found[1]


@pytest.mark.parametrize("value", ["[foreign_code.Mine]", "[{class_path: foreign_code.Mine}]"])
def test_a_class_that_only_a_file_names_is_not_imported(
    quickstudy, config, tmp_path, monkeypatch, value
):
    marker = tmp_path / "imported"
    (tmp_path / "foreign_code.py").write_text(
        f"import pathlib, quickstudy\npathlib.Path({str(marker)!r}).touch()\n\n\n"
        "class Mine(quickstudy.strategies.PrototypicalNetwork):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    head = config.read_text().partition("sweep:")[0]
    config.write_text(f"{head}sweep:\n  strategy: {value}\n  shots: [1, 2]\n")
    words = ["--config", config, "--out", tmp_path / "out"]
    code, _, err = quickstudy("sweep", *words)
    assert code == 1
    assert "foreign_code.Mine" in err
    assert "--trust" in err
    assert not marker.exists()
    code, _, err = quickstudy("sweep", *words, "--trust", "foreign_code.Mine")
    monkeypatch.delitem(sys.modules, "foreign_code", raising=False)
    assert code == 0, err
    assert marker.exists()


def test_a_class_that_was_typed_is_trained_by_other_processes_too(start_python, config, tmp_path):
    (tmp_path / "foreign_code.py").write_text(
        "import quickstudy\n\n\nclass Mine(quickstudy.strategies.PrototypicalNetwork):\n    pass\n"
    )
    config.write_text(config.read_text().partition("sweep:")[0])
    words = ["sweep", "strategy=foreign_code.Mine,MAML", "--config", config, "--jobs", 2]
    words = ["-m", "quickstudy", *words, "--out", tmp_path / "out"]
    process = start_python(*words, cwd=tmp_path)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    assert {row["state"] for row in results(tmp_path / "out")} == {"finished"}


def commands_of_the_page():
    page = (ROOT / "docs" / "sweeps.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("words", commands_of_the_page(), ids=" ".join)
def test_commands_of_the_page(words, quickstudy, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert words[0] == "quickstudy"
    if "--ray" in words:  # without a cluster here: that they are read as they stand
        words = [*words, "--print_config"]
    small = ["--steps", 9, "--validate_every", 9, "--validation_episodes", 3, "--ways", 2]
    encoder = ["--encoder", "MLP", "--encoder.hidden", "[4]"]
    code, out, err = quickstudy(*words[1:], *small, *encoder, "--out", tmp_path / "out")
    assert code == 0, err
    assert "--ray" in words or "Written to" in out + err
