import csv
import subprocess
import sys

import pytest
import torch

import quickstudy
from quickstudy.encoders import MLP
from quickstudy.runs import load
from quickstudy.runs.checkpoint import Checkpoint
from quickstudy.strategies import MAML, Hypernetwork, PrototypicalNetwork
from quickstudy.training import Trainer

from ..builders import SETTINGS, make


def metrics_without_time(path):
    with (path / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: make(),
        lambda: make(MAML, ways=4, inner_learning_rate=0.1),
        lambda: make(Hypernetwork, width=16, layers=1),
    ],
    ids=["prototypes", "maml", "hypernetwork"],
)
def test_training_learns_to_learn_classes_it_never_saw(parts, strategy):
    untrained = quickstudy.evaluate(strategy(), parts["test"], ways=4, queries=5, episodes=100)
    run = quickstudy.fit(strategy(), parts["train"], parts["validation"], steps=100, **SETTINGS)
    trained = quickstudy.evaluate(run, parts["test"], ways=4, queries=5, episodes=100)
    gap = trained.accuracy.mean - untrained.accuracy.mean
    assert gap > trained.accuracy.ci95 + untrained.accuracy.ci95


def test_without_tensorboard_a_run_has_no_events_and_says_so_once(
    parts, tmp_path, monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    caplog.set_level("INFO", "quickstudy")
    trainer = Trainer(steps=10, **SETTINGS)
    trainer.fit(make(), parts["train"], parts["validation"], out=tmp_path / "run")
    assert not list((tmp_path / "run").glob("events*"))
    assert [row["step"] for row in metrics_without_time(tmp_path / "run")] == ["5", "10"]
    assert caplog.text.count("pip install 'quickstudy[tensorboard]'") == 1


def test_run_directory_is_complete_and_loads(parts, tmp_path):
    run = Trainer(steps=20, **SETTINGS).fit(
        make(), parts["train"], parts["validation"], out=tmp_path / "run"
    )
    names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "last.safetensors", "best.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.startswith(".") for name in names), "temporary files left"
    loaded = load(tmp_path / "run")
    assert loaded.inputs == parts["train"].inputs
    assert loaded.progress["step"] == run.progress["best_step"]
    for name, tensor in run.strategy.state_dict().items():
        assert torch.equal(tensor, loaded.strategy.state_dict()[name])
    alone = load(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert type(alone.strategy) is PrototypicalNetwork
    rows = metrics_without_time(tmp_path / "run")
    assert [row["step"] for row in rows] == ["5", "10", "15", "20"]
    assert [bool(row["validation_accuracy"]) for row in rows] == [False, True, False, True]


def test_same_seed_same_run_and_other_seed_another(parts):
    def final(seed):
        run = quickstudy.fit(make(), parts["train"], steps=6, seed=seed, **SETTINGS)
        return torch.cat([p.flatten() for p in run.strategy.parameters()])

    assert torch.equal(final(1), final(1))
    assert not torch.equal(final(1), final(2))


def test_the_caller_keeps_its_random_numbers(parts):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    strategy = PrototypicalNetwork(MLP((1, 8, 8), (8,)))
    torch.manual_seed(5)
    quickstudy.fit(strategy, parts["train"], steps=2, **SETTINGS)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resume_continues_exactly(parts, tmp_path, optimizer):
    settings = SETTINGS | {"optimizer": optimizer, "warmup_steps": 4, "clip_norm": 1.0}
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    Trainer(steps=20, **settings).fit(make(), parts["train"], parts["validation"], out=whole)
    Trainer(steps=8, **settings).fit(make(), parts["train"], parts["validation"], out=halves)
    Trainer(steps=20, **settings).fit(
        make(), parts["train"], parts["validation"], out=halves, resume=True
    )
    # Stopping at step 8 added a row and a validation there; all later rows must agree.
    later = [row for row in metrics_without_time(halves) if int(row["step"]) > 10]
    assert later == [row for row in metrics_without_time(whole) if int(row["step"]) > 10]
    first = Checkpoint.load(whole / "checkpoints" / "last.safetensors").model
    second = Checkpoint.load(halves / "checkpoints" / "last.safetensors").model
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_it(parts, tmp_path, caplog, damage):
    whole, run = tmp_path / "whole", tmp_path / "run"
    Trainer(steps=20, **SETTINGS).fit(make(), parts["train"], parts["validation"], out=whole)
    Trainer(steps=8, **SETTINGS).fit(make(), parts["train"], parts["validation"], out=run)
    last = run / "checkpoints" / "last.safetensors"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content[:-9] if damage == "cut" else content)
    if damage == "gone":  # as after a crash between two renamings
        last.unlink()
    resumed = Trainer(steps=20, **SETTINGS).fit(
        make(), parts["train"], parts["validation"], out=run, resume=True
    )
    assert ("damaged" in caplog.text) == (damage != "gone")
    assert resumed.progress["step"] == 20
    first, second = (
        Checkpoint.load(each / "checkpoints" / "last.safetensors").model for each in (whole, run)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_without_any_whole_checkpoint_nothing_is_trained(parts, tmp_path):
    run = tmp_path / "run"
    Trainer(steps=3, **SETTINGS).fit(make(), parts["train"], parts["validation"], out=run)
    for name in ("last", "previous"):
        (run / "checkpoints" / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        Trainer(steps=9, **SETTINGS).fit(
            make(), parts["train"], parts["validation"], out=run, resume=True
        )


def test_early_stopping_and_best_checkpoint(parts, tmp_path):
    settings = SETTINGS | {"learning_rate": 1e-12, "validate_every": 2}
    torch.manual_seed(0)
    run = Trainer(steps=50, patience=3, **settings).fit(
        PrototypicalNetwork(MLP((1, 8, 8), (8,))),
        parts["train"],
        parts["validation"],
        out=tmp_path / "run",
    )
    # So small a rate never does better than the first validation: it stops after three more.
    assert run.progress["best_step"] == 2
    assert run.progress["step"] == 8


def test_max_minutes_ends_the_run(parts):
    run = quickstudy.fit(make(), parts["train"], steps=10**6, max_minutes=0.01, **SETTINGS)
    assert run.progress["finished"]
    assert 0 < run.progress["step"] < 10**6


def test_a_compiled_run_says_how_long_compilation_took(parts, capsys, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda forward, **_: forward)
    strategy = MAML(MLP((1, 8, 8), (8,)), ways=3)
    settings = {"ways": 3, "queries": 2, "tasks": 2, "steps": 2, "accelerator": "cpu"}
    quickstudy.fit(strategy, parts["train"], compiled=True, **settings)
    assert "".join(capsys.readouterr()).count("Compiled in 0 s.") == 1


def test_bfloat16_trains(parts):
    run = quickstudy.fit(make(), parts["train"], steps=30, precision="bf16-mixed", **SETTINGS)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in run.strategy.parameters())


def test_plain_errors(parts, tmp_path):
    trainer = Trainer(steps=2, **SETTINGS)
    run = tmp_path / "run"
    trainer.fit(make(), parts["train"], None, out=run)
    with pytest.raises(ValueError, match="already holds a run"):
        trainer.fit(make(), parts["train"], None, out=run)
    with pytest.raises(
        ValueError,
        match=r"another strategy.*class_path.*MAML.*Prototypical|"
        r"another strategy.*class_path.*Prototypical.*MAML",
    ):
        trainer.fit(make(MAML, ways=4), parts["train"], None, out=run, resume=True)
    with pytest.raises(ValueError, match="other settings: seed: 0, not 9"):
        Trainer(steps=2, seed=9, **SETTINGS).fit(make(), parts["train"], None, out=run, resume=True)
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        trainer.fit(make(), parts["train"], None, out=tmp_path / "nothing", resume=True)
    with pytest.raises(ValueError, match="cannot share"):
        Trainer(tasks=1, devices=2)
    with pytest.raises(ValueError, match="50 ways"):
        quickstudy.fit(make(), parts["train"], steps=2, ways=50)
    with pytest.raises(ValueError, match="8 shots"):
        quickstudy.fit(
            make(), parts["train"], parts["validation"], steps=2, **SETTINGS | {"shots": 8}
        )
    with pytest.raises(FileNotFoundError, match="not a run"):
        load(tmp_path / "nothing")


def test_strategies_whose_support_cannot_rotate_are_refused(parts):
    def train(strategy, rotations=2):
        quickstudy.fit(strategy, parts["train"], steps=2, support_rotations=rotations, **SETTINGS)

    class Own(PrototypicalNetwork):
        def loss(self, episode):
            return super().loss(episode)

    with pytest.raises(ValueError, match="MAML encodes its inputs anew"):
        train(make(MAML, ways=4))
    with pytest.raises(ValueError, match="SimpleShot does not learn from tasks"):
        train(make(quickstudy.strategies.SimpleShot))
    with pytest.raises(ValueError, match=r"loss of Own takes no features.*features=None"):
        train(make(Own))
    most = 1 + SETTINGS["queries"] // SETTINGS["shots"]
    with pytest.raises(ValueError, match=f"use at most {most}"):
        train(make(), rotations=most + 1)


def test_rotations_learn_more_from_the_same_tasks(parts):
    """More of what a task holds, that is: the loss on its examples falls further."""
    losses = [
        quickstudy.fit(
            make(), parts["train"], steps=30, support_rotations=rotations, **SETTINGS
        ).history[-1]
        for rotations in (1, 3)
    ]
    assert losses[1]["loss"] < losses[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_run(parts):
    class Broken(PrototypicalNetwork):
        def loss(self, episode):
            loss, logits = super().loss(episode)
            return loss * float("nan"), logits

    with pytest.raises(FloatingPointError, match="not finite"):
        quickstudy.fit(Broken(MLP((1, 8, 8), (8,))), parts["train"], steps=2, **SETTINGS)


def test_import_is_light():
    code = "import sys, quickstudy; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
