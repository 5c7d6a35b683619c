"""A run is a function of its settings and its seed, however often it was stopped on the way."""

import pytest
import torch

import quickstudy.strategies as package
from quickstudy.datasets import ClassDataset
from quickstudy.encoders import MLP, AudioCNN, AudioGRU, Conv4, ResNet12, TextEncoder
from quickstudy.inputs import AudioInputs, Augmentation, TextInputs
from quickstudy.runs.run import RunDirectory
from quickstudy.training import Trainer
from quickstudy.training.loop import TrainingLoop

STEPS, CHECKPOINT_EVERY, VALIDATE_EVERY = 12, 4, 6
SETTINGS = {
    "ways": 3,
    "queries": 2,
    "tasks": 2,
    "batch_size": 12,
    "steps": STEPS,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "warmup_steps": 3,
    "clip_norm": 1.0,
    "checkpoint_every": CHECKPOINT_EVERY,
    "validate_every": VALIDATE_EVERY,
    "validation_episodes": 4,
    "validation_queries": 2,
    "log_every": 5,
    "accelerator": "cpu",
    "show_progress": False,
}
TEXTS = ["the card has not come", "which rate is it", "I lost my phone", "how do I pay"]
TURNED = {"augmentation": Augmentation(degrees=10, shift=0.1)}


def conv4():
    return Conv4((1, 8, 8), channels=4, blocks=2)


STRATEGIES = {
    "batch norm's averages, augmentation": (
        "images",
        lambda _: package.PrototypicalNetwork(conv4()),
        TURNED,
    ),
    "DropBlock, which counts its passes": (
        "images",
        lambda _: package.PrototypicalNetwork(
            ResNet12((1, 8, 8), (4, 4, 8), drop_rate=0.3, drop_block_warmup=20)
        ),
        TURNED,
    ),
    "a moving average": ("images", lambda _: package.PrototypicalNetwork(conv4()), {"ema": 0.8}),
    "a moving average beside counters": (
        "images",
        lambda _: package.MAMLPlusPlus(conv4(), ways=3),
        {"ema": 0.8},
    ),
    "momentum, inner steps": (
        "images",
        lambda _: package.MAML(conv4(), ways=3, inner_steps=2),
        {"optimizer": "sgd"},
    ),
    "phases of training": ("images", lambda _: package.MAMLPlusPlus(conv4(), ways=3), {}),
    "draws at random": ("images", lambda _: package.LEO(conv4(), latent=6, frozen=False), {}),
    "samples weights": ("images", lambda _: package.VERSA(conv4(), width=8), {}),
    "dropout in attention": ("images", lambda _: package.FEAT(conv4(), dropout=0.5), {}),
    "ordinary batches": ("images", lambda classes: package.Baseline(conv4(), classes), TURNED),
    "small inputs, several tasks in one call": (
        "images",
        lambda _: package.PrototypicalNetwork(MLP((1, 8, 8), (8,))),
        {"precision": "bf16-mixed"},
    ),
    "texts, dropout": (
        "texts",
        lambda _: package.PrototypicalNetwork(TextEncoder((6,), 300, width=8, dropout=0.3)),
        {},
    ),
    "texts, recurrent": (
        "texts",
        lambda _: package.R2D2(TextEncoder((6,), 300, "recurrent", width=8, dropout=0.3)),
        {},
    ),
    "sounds, masks": (
        "sounds",
        lambda _: package.PrototypicalNetwork(
            AudioCNN((1600,), 8000, 4, 2, mels=12, widest_band=4, longest_gap=3)
        ),
        {},
    ),
    "sounds, recurrent": (
        "sounds",
        lambda _: package.PrototypicalNetwork(AudioGRU((1600,), 8000, 8, 2, dropout=0.3, mels=12)),
        {},
    ),
}


@pytest.fixture(scope="module")
def data(parts):
    """Training and validation classes of each kind of input."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 257, (12 * 8, 6), generator=generator, dtype=torch.int32)
    waves = torch.randint(-9000, 9000, (12 * 8, 1600), generator=generator, dtype=torch.int16)
    made = {
        "texts": (tokens, TextInputs.learned(TEXTS, 300, length=6)),
        "sounds": (waves, AudioInputs(rate=8000, seconds=0.2)),
    }
    names = [f"class{number:02}" for number in range(12)]
    found = {"images": parts}
    for kind, (examples, inputs) in made.items():
        whole = ClassDataset.contiguous(examples, [8] * 12, names, inputs, kind)
        found[kind] = whole.split((0.6, 0.4))
    return found


def fit(data, case, out, resume=False, seed=0):
    kind, make, more = STRATEGIES[case]
    first, second = list(data[kind].values())[:2]
    # What a resumed run starts from must not matter.
    torch.manual_seed(99 if resume else 0)
    strategy = make(first.classes)
    return Trainer(**SETTINGS | more, seed=seed).fit(
        strategy, first, second, out=out, resume=resume
    )


def state_of(run):
    newest = RunDirectory(run).newest()
    tensors = {f"model.{name}": value for name, value in newest.model.items()}
    tensors |= {f"raw.{name}": value for name, value in newest.raw.items()}
    return tensors | {f"optimizer.{name}": value for name, value in newest.optimizer.items()}


def differing(a, b):
    first, second = state_of(a), state_of(b)
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the package catches it."""


def broken_off(monkeypatch, step, kind):
    """Lets a run end after ``step``, asked to stop or killed."""
    step_of = TrainingLoop._step

    def wrapped(self, seconds):
        now = self.progress["step"] + 1
        if now == step and kind == "stopped":
            self.stop_request.made = True
        step_of(self, seconds)
        if now == step and kind == "killed":
            raise Killed

    monkeypatch.setattr(TrainingLoop, "_step", wrapped)


@pytest.mark.parametrize("case", STRATEGIES)
def test_a_run_that_was_stopped_and_killed_ends_in_the_same_bits(data, tmp_path, monkeypatch, case):
    whole, run = tmp_path / "whole", tmp_path / "run"
    fit(data, case, whole)
    resume = False
    # In the first step, between checkpoints, at one, at a validation, and in the last step.
    for step, kind in (
        (1, "killed"), (1, "stopped"), (3, "killed"), (4, "stopped"), (6, "killed"),
        (7, "stopped"), (8, "killed"), (STEPS, "killed"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            broken_off(patch, step, kind)
            if kind == "stopped":
                fit(data, case, run, resume)
                assert RunDirectory(run).newest().progress["step"] == step
            else:
                with pytest.raises(Killed):
                    fit(data, case, run, resume)
        resume = True
    finished = fit(data, case, run, resume=True)
    assert finished.progress["finished"]
    assert differing(whole, run) == []
    numbers = [
        [{**r, "seconds": None} for r in RunDirectory(d).newest().history] for d in (whole, run)
    ]
    assert numbers[0] == numbers[1]
    best = [RunDirectory(each).read_best() for each in (whole, run)]
    assert best[0].progress["step"] == best[1].progress["step"]
    assert all(torch.equal(best[0].model[name], best[1].model[name]) for name in best[0].model)


@pytest.mark.parametrize("case", ["draws at random", "texts, dropout", "ordinary batches"])
def test_the_same_seed_gives_the_same_bits_and_another_others(data, tmp_path, case):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(data, case, tmp_path / name, seed=seed)
    assert differing(tmp_path / "a", tmp_path / "b") == []
    assert differing(tmp_path / "a", tmp_path / "c") != []
