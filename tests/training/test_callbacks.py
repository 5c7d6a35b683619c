"""Callbacks see a run and change nothing."""

import pytest
import torch

from quickstudy import Trainer, load
from quickstudy.training import Callback

from ..builders import SETTINGS, make


class Recorder(Callback):
    def __init__(self):
        self.steps, self.validations, self.ends = [], [], []

    def on_step(self, step, values):
        self.steps.append((step, values))
        torch.rand(3)

    def on_validation(self, step, values):
        self.validations.append((step, values))

    def on_end(self, step, values):
        self.ends.append((step, values))


class Failing(Callback):
    def on_step(self, step, values):
        if step == 3:
            raise RuntimeError("the disk of the observer is full")


def train(parts, out, *callbacks, **more):
    trainer = Trainer(**SETTINGS | {"steps": 6, "validate_every": 2}, callbacks=callbacks)
    return trainer.fit(make(), parts["train"], parts["validation"], out=out, **more)


def test_callbacks_follow_a_run_and_change_nothing(parts, tmp_path):
    recorder = Recorder()
    seen, unseen = train(parts, tmp_path / "a", recorder), train(parts, tmp_path / "b")
    for name, value in seen.strategy.state_dict().items():
        assert torch.equal(value, unseen.strategy.state_dict()[name])
    assert [step for step, _ in recorder.steps] == [1, 2, 3, 4, 5, 6]
    assert all(values["loss"] > 0 for _, values in recorder.steps)
    assert [step for step, _ in recorder.validations] == [2, 4, 6]
    best = max(values["validation_accuracy"] for _, values in recorder.validations)
    ((step, values),) = recorder.ends
    assert (step, values["finished"], values["best_accuracy"]) == (6, 1, best)
    assert "callbacks" not in (tmp_path / "a" / "config.yaml").read_text()


def test_an_error_of_a_callback_ends_the_run_with_its_state_saved(parts, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(parts, whole)
    with pytest.raises(RuntimeError, match="observer is full"):
        train(parts, run, Failing())
    assert load(run, "last").progress["step"] == 3
    train(parts, run, resume=True)
    one, other = (load(path, "last").strategy.state_dict() for path in (whole, run))
    assert all(torch.equal(one[name], other[name]) for name in one)
