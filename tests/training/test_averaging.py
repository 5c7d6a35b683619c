import pytest
import torch

import quickstudy
from quickstudy.encoders import Conv4
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.strategies import PrototypicalNetwork
from quickstudy.training.averaging import MovingAverage

SETTINGS = {"ways": 4, "queries": 3, "learning_rate": 3e-3, "show_progress": False}


def make():
    torch.manual_seed(0)
    return PrototypicalNetwork(Conv4((1, 8, 8), channels=4, blocks=2))


class Tied(torch.nn.Module):
    """One parameter under two names, and a counter."""

    def __init__(self):
        super().__init__()
        self.first = self.second = torch.nn.Parameter(torch.tensor([8.0]))
        self.register_buffer("count", torch.tensor(0))


def test_the_average_of_a_few_numbers():
    """By hand: d is 1/10, 2/11 and 3/12 at first, and never more than the decay."""
    module = Tied()
    average = MovingAverage(module, decay=0.2)
    expected = 8.0
    for step, value in enumerate([2.0, -1.0, 5.0, 5.0], start=1):
        module.first.data.fill_(value)
        module.count.fill_(step)
        average.update(module, step)
        d = [0.1, 2 / 11, 0.2, 0.2][step - 1]
        expected = d * expected + (1 - d) * value
        assert average.state["first"].item() == pytest.approx(expected)
        assert average.state["second"].item() == pytest.approx(expected)
        assert average.state["count"] == step
    with average.in_place(module):
        assert module.second.item() == pytest.approx(expected)
    assert module.second.item() == 5.0


def test_a_run_ends_with_the_average_of_its_steps(parts):
    def after(steps, **settings):
        run = quickstudy.fit(make(), parts["train"], steps=steps, **SETTINGS, **settings)
        return run.strategy

    average = MovingAverage(make(), decay=0.6)
    for step in range(1, 6):  # constant rates, so that a shorter run is a part of a longer one
        average.update(after(step), step)
    found = after(5, ema=0.6).state_dict()
    assert found.keys() == average.state.keys()
    for name, value in found.items():
        assert torch.allclose(value, average.state[name], atol=1e-6), name


def test_what_is_validated_saved_and_started_from_is_the_average(parts, tmp_path):
    more = {"validate_every": 20, "validation_episodes": 30, "validation_queries": 5, "ema": 0.9}
    first = tmp_path / "first"
    run = quickstudy.fit(
        make(), parts["train"], parts["validation"], out=first, steps=20, **SETTINGS, **more
    )
    saved = Checkpoint.load(first / "checkpoints" / "best.safetensors")
    last = Checkpoint.load(first / "checkpoints" / "last.safetensors")
    for name, value in run.strategy.state_dict().items():
        assert torch.equal(value, saved.model[name])
        assert torch.equal(value, last.model[name])
    assert any(not torch.equal(last.raw[name], last.model[name]) for name in last.model)
    with pytest.warns(UserWarning, match="validated on"):
        report = quickstudy.evaluate(
            run, parts["validation"], ways=4, shots=1, queries=5, episodes=30, seed=0
        )
    assert report.accuracy.mean == pytest.approx(run.history[-1]["validation_accuracy"])
    second = quickstudy.fit(
        make(), parts["train"], steps=1, start_from=str(first), **SETTINGS | {"learning_rate": 1e-9}
    )
    weight = "encoder.convolutions.0.weight"
    assert torch.allclose(second.strategy.state_dict()[weight], saved.model[weight], atol=1e-7)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decays_out_of_range_are_refused(parts, decay):
    with pytest.raises(ValueError, match="must be at least 0 and less than 1"):
        quickstudy.fit(make(), parts["train"], steps=1, ema=decay, **SETTINGS)
