"""Any optimiser learns, and goes on after a resumption as if nothing had happened."""

import pytest
import torch
from torch import nn

import quickstudy
from quickstudy import Trainer, load
from quickstudy.training.optimizer import optimizer_tensors, restore_optimizer, state_after_a_step

from ..builders import SETTINGS, make


class Counting(torch.optim.Optimizer):
    """Keeps whole numbers in its state, and something in its group."""

    def __init__(self, params, lr=0.1, pace=1):
        super().__init__(params, {"lr": lr, "pace": pace, "rounds": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["rounds"] += 1
            for parameter in group["params"]:
                state = self.state[parameter]
                state["passes"] = state.get("passes", 0) + group["pace"]
                state["rows"] = state.get("rows", 0) + parameter.grad.flatten(1).sum(1)
                factor = group["lr"] / (state["passes"] + group["rounds"])
                parameter -= factor * state["rows"].view(-1, *[1] * (parameter.ndim - 1))


class Secret(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        self.state[self.param_groups[0]["params"][0]]["secret"] = object()


OPTIMIZERS = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "options of a short name": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.5}},
    "a class": {"optimizer": torch.optim.RMSprop, "optimizer_options": {"alpha": 0.9}},
    "an import path": {"optimizer": "torch.optim.NAdam"},
    "state from the start": {"optimizer": torch.optim.Adagrad},
    "state smaller than parameters": {"optimizer": torch.optim.Adafactor},
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_a_resumed_run_ends_in_the_same_bits(parts, tmp_path, case):
    settings = SETTINGS | {"learning_rate": 1e-2} | OPTIMIZERS[case]
    models = []
    for name, stops in (("whole", [6]), ("resumed", [3, 6])):
        for number, stop in enumerate(stops):
            trainer = Trainer(steps=6, **settings)
            trainer.fit(make(), parts["train"], out=tmp_path / name, resume=number > 0, until=stop)
        models.append(load(tmp_path / name, "last").strategy.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    start = make().state_dict()
    assert not all(torch.equal(models[0][name], start[name]) for name in start)


def test_numbers_and_what_a_group_holds_are_restored():
    def made():
        layer = nn.Linear(3, 2, bias=False)
        layer.weight.grad = torch.ones(2, 3)
        return layer.weight, Counting([layer.weight], pace=2)

    weight, optimizer = made()
    optimizer.step()
    optimizer.step()
    saved = optimizer_tensors(optimizer, ["weight"])
    assert saved.keys() == {"weight.passes", "weight.rows", ".rounds"}
    other, again = made()
    expected = state_after_a_step_of(again)
    restore_optimizer(again, saved, ["weight"], expected)
    assert again.state[other]["passes"] == 4
    assert isinstance(again.state[other]["passes"], int)
    assert again.param_groups[0]["rounds"] == 2
    assert torch.equal(again.state[other]["rows"], optimizer.state[weight]["rows"])


def state_after_a_step_of(optimizer):
    from quickstudy.training import optimizer as room

    room.BY_NAME["counting"] = (Counting, {})
    try:
        return state_after_a_step("counting", optimizer.param_groups[0]["params"], 0.1, 0, {})
    finally:
        del room.BY_NAME["counting"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adagrad"}, "'adagrad' is unknown; choose adam, adamw, sgd, or a class"),
        ({"optimizer": 3}, "The optimizer is 3; give adam"),
        ({"optimizer": nn.Linear}, "subclass of torch.optim.Optimizer"),
        ({"optimizer_options": {"betas": object()}}, "optimizer_options is .* a run directory"),
    ],
)
def test_wrong_optimizers_are_refused_at_once(settings, message):
    with pytest.raises(quickstudy.UserError, match=message):
        Trainer(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "torch.optim.Nothing"}, "cannot be imported"),
        ({"optimizer": "torch.nn.Linear"}, "subclass of torch.optim.Optimizer"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS evaluates the loss several times"),
        ({"optimizer_options": {"nonsense": 1}}, "Adam cannot be made with .*nonsense=1"),
        ({"optimizer": Secret}, "The state of Secret cannot be saved: its 'secret' is a object"),
    ],
)
def test_optimizers_that_cannot_be_used_are_refused_before_training(
    parts, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr("quickstudy.training.run_state.BY_NAME", {"adam": None})
    with pytest.raises(quickstudy.UserError, match=message):
        Trainer(steps=3, **SETTINGS | settings).fit(make(), parts["train"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
