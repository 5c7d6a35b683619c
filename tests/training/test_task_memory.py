"""The memory of a deep inner loop is foreseen."""

import pytest
import torch

from quickstudy.encoders import Conv4
from quickstudy.episodes import EpisodeSampler
from quickstudy.strategies import MAML, PrototypicalNetwork
from quickstudy.training import fit
from quickstudy.training.task_memory import deep_loop_bytes, held_bytes

from ..builders import make_blobs


def maml(**arguments):
    torch.manual_seed(0)
    return MAML(Conv4((1, 8, 8), 9, blocks=2), ways=3, inner_learning_rate=0.01, **arguments)


@pytest.fixture(scope="module")
def task():
    return EpisodeSampler(make_blobs(), ways=3, shots=2, queries=2).episode(0)


@pytest.mark.parametrize("recompute", [False, True])
def test_what_many_steps_hold_follows_from_what_few_hold(task, recompute):
    strategy = maml(inner_steps=12, recompute=recompute)
    assert deep_loop_bytes(strategy, task) == pytest.approx(held_bytes(strategy, task), rel=0.01)
    assert strategy.inner_steps == 12


def test_where_there_is_no_deep_loop_nothing_is_estimated(task):
    assert deep_loop_bytes(maml(inner_steps=1), task) is None
    assert deep_loop_bytes(PrototypicalNetwork(Conv4((1, 8, 8), 9, blocks=2)), task) is None


def test_a_run_that_will_not_fit_is_warned_of_before_it_starts(parts, monkeypatch, capsys):
    monkeypatch.setattr("quickstudy.training.task_memory.free_memory", lambda device: 2.0**20)
    settings = {"ways": 3, "queries": 2, "steps": 1, "accelerator": "cpu"}
    fit(maml(inner_steps=50), parts["train"], **settings)
    said = "".join(capsys.readouterr())
    assert "A task will hold about" in said
    assert "--strategy.recompute true" in said
    fit(maml(inner_steps=50, recompute=True), parts["train"], **settings)
    fit(maml(inner_steps=1), parts["train"], **settings)
    assert "will hold" not in "".join(capsys.readouterr())
