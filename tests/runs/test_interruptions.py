"""Whatever ends a run, the last good state stays, and what goes on from it ends the same."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from quickstudy.runs import load
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.runs.run import RunDirectory
from quickstudy.saving.directory_lock import locked
from quickstudy.saving.files import UnwritableError
from quickstudy.training import Trainer

from ..builders import SETTINGS, make
from ..conftest import HANG

PATHS = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])


def train(parts, out, steps=20, resume=False, **more):
    return Trainer(steps=steps, **SETTINGS | more).fit(
        make(), parts["train"], parts["validation"], out=out, resume=resume
    )


def same_model(a, b):
    first, second = (RunDirectory(each).newest().model for each in (a, b))
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole(parts, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(parts, out)
    return out


def whole_metrics(run):
    return (run / "metrics.csv").read_text()


def without_seconds(text):
    return [line.rpartition(",")[0] for line in text.splitlines()]


# -- a full disk, a folder that cannot be written ----------------------------------------------


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("what", ["last", "best", "metrics", "config"])
def test_what_cannot_be_written_is_said_and_costs_nothing(
    parts, whole, tmp_path, monkeypatch, what, kind
):
    run = tmp_path / "run"
    train(parts, run, steps=12)
    renamed, opened = type(run).replace, type(run).open

    def replace(self, target):
        if target.stem == what:
            raise OSError(kind, os.strerror(kind))
        return renamed(self, target)

    def open_(self, mode="r", *args, **kwargs):
        if self.stem == what and mode == "a":
            raise OSError(kind, os.strerror(kind))
        return opened(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "replace", replace)
        patch.setattr(type(run), "open", open_)
        if what == "best":  # a better one than ever, to be written
            patch.setattr("quickstudy.training.loop.mean_and_interval", lambda *_: (1.0, 0.0))
        with pytest.raises(UnwritableError, match=rf"{what}\.\w+ cannot be written: .*\."):
            train(parts, run, resume=True)
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    assert RunDirectory(run).newest().progress["step"] >= 12
    load(run)
    train(parts, run, resume=True)
    assert same_model(run, whole)


def test_a_folder_that_cannot_be_written_is_refused(parts, tmp_path):
    folder = tmp_path / "readonly"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("Permissions do not bind this user.")
    with pytest.raises(UnwritableError, match="cannot be written: you may not write there"):
        train(parts, folder / "run")


# -- what is in the directory ------------------------------------------------------------------


def test_temporary_files_of_dead_processes_are_removed(parts, whole, tmp_path):
    run = tmp_path / "run"
    train(parts, run, steps=8)
    left = [run / f".config-{'1' * 32}.tmp", run / "checkpoints" / f".last-{'2' * 32}.tmp"]
    for path in left:
        path.write_bytes(b"half")
    train(parts, run, resume=True)
    assert not any(path.exists() for path in left)


def test_metrics_and_config_are_written_again_as_they_were(parts, whole, tmp_path, caplog):
    run = tmp_path / "run"
    train(parts, run, steps=15)
    metrics, config = run / "metrics.csv", run / "config.yaml"
    metrics.write_bytes(metrics.read_bytes()[:-7].replace(b"5", b"6"))
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    train(parts, run, resume=True)
    assert "seed: 1, not 0" in caplog.text
    assert "seed: 0" in config.read_text()
    rows, expected = map(without_seconds, (metrics.read_text(), whole_metrics(whole)))
    assert len(rows) == len(expected) == 5
    del rows[3], expected[3]  # stopping at step 15 put a validation there
    assert rows == expected


def test_events_are_cut_back_too(parts, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(parts, run, steps=10)
    at_ten = RunDirectory(run).last.read_bytes()
    train(parts, run, steps=15, resume=True)
    for path in (run / "checkpoints").glob("[lp]*"):  # so that it goes on from step 10
        path.write_bytes(at_ten)
    train(parts, run, resume=True)
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [5, 10, 15, 20]
    assert [row.partition(",")[0] for row in (run / "metrics.csv").read_text().splitlines()] == [
        "step", "5", "10", "15", "20",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["damaged", "missing", "swapped"])
def test_a_lost_best_checkpoint_is_made_again_or_missed(parts, tmp_path, caplog, lost):
    run = tmp_path / "run"
    train(parts, run, steps=10)
    directory = RunDirectory(run)
    at_ten = Checkpoint.load(directory.best)
    assert at_ten.progress["best_step"] == 10
    spoil = {
        "damaged": lambda: directory.best.write_bytes(b"x"),
        "missing": directory.best.unlink,
        "swapped": lambda: directory.best.write_bytes(earlier_checkpoint(parts, tmp_path)),
    }
    spoil[lost]()
    train(parts, run, resume=True)
    assert "It is restored from" in caplog.text
    best = load(run)
    assert best.progress["step"] == best.progress["best_step"]


def earlier_checkpoint(parts, folder):
    """The best of a run that has stopped at step 7, which is as good a file as any."""
    train(parts, folder / "other", steps=7)
    return RunDirectory(folder / "other").best.read_bytes()


def test_a_best_checkpoint_that_is_nowhere_else_is_not_replaced_by_another(
    parts, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    worse_and_worse = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(
        "quickstudy.training.loop.mean_and_interval", lambda *_: (next(worse_and_worse), 0.1)
    )
    train(parts, run)
    directory = RunDirectory(run)
    assert directory.newest().progress["best_step"] == 10
    directory.best.write_bytes(directory.best.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"best\.safetensors.*damaged"):
        load(run)
    with pytest.raises(ValueError, match="is in no other checkpoint"):
        train(parts, run, steps=30, resume=True)
    assert load(run, "last").progress["step"] == 20


def test_a_second_process_is_refused_and_evaluation_is_not(parts, whole):
    with locked(whole):
        with pytest.raises(ValueError, match=rf"trained already by process {os.getpid()} on"):
            train(parts, whole, resume=True)
        assert load(whole).progress["step"] > 0


def test_resuming_makes_no_folder(parts, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        train(parts, tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_what_another_run_learned_is_there_from_the_first_checkpoint_on(parts, whole, tmp_path):
    """A run that was killed before its first step must not go on from other values."""
    more = {"start_from": str(whole)}
    expected, run = tmp_path / "expected", tmp_path / "run"
    train(parts, expected, steps=5, **more)

    def killed(*_):
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quickstudy.training.loop.TrainingLoop._step", killed)
        with pytest.raises(SystemExit):
            train(parts, run, steps=5, **more)
    train(parts, run, steps=5, resume=True, **more)
    assert same_model(run, expected)


# -- signals, as processes get them ------------------------------------------------------------

PROGRAM = """
import json, sys, time
from quickstudy.training import Trainer
from quickstudy.training.loop import TrainingLoop
from tests.builders import SETTINGS, make, make_blobs

step_of = TrainingLoop._step

def step(self, seconds):
    print("step", flush=True)
    if sys.argv[2] == "endless":
        time.sleep(10**6)
    step_of(self, seconds)

TrainingLoop._step = step
parts = make_blobs().split((0.5, 0.25, 0.25))
run = Trainer(steps=10**6, **SETTINGS).fit(make(), parts["train"], None, sys.argv[1])
print(json.dumps(run.progress["step"]))
"""


@pytest.fixture
def started(start_python, tmp_path):
    """Starts a run in a process, and waits for its first step."""

    def start(steps):
        process = start_python(
            "-c", PROGRAM, tmp_path / "run", steps, environment={"PYTHONPATH": PATHS}
        )
        assert process.stdout.readline() == "step\n", process.stderr.read()
        return process

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(started, tmp_path, number):
    process = started("short")
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    assert "Stopping after this step" in err
    steps = json.loads(out.splitlines()[-1])
    assert RunDirectory(tmp_path / "run").newest().progress["step"] == steps > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(started, tmp_path, number):
    process = started("endless")
    process.send_signal(number)
    while "Stopping after this step" not in (line := process.stderr.readline()):
        assert line, "the process has ended"
    process.send_signal(number)
    process.communicate(timeout=HANG)  # its step would never end by itself
    assert process.returncode != 0
    assert RunDirectory(tmp_path / "run").newest().progress["step"] == 0
    assert not (tmp_path / "run" / ".lock").exists()
