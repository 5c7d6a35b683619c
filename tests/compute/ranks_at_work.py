"""What one, two and four processes do in the tests of ranks; run as a program by each of them.

python -m tests.compute.ranks_at_work DEVICES FOLDER
"""

import itertools
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import quickstudy
from quickstudy.compute.ranks import gathered, rank, ranks
from quickstudy.encoders import MLP, Conv4
from quickstudy.inputs import Augmentation
from quickstudy.strategies import FEAT, MAML, Baseline, PrototypicalNetwork
from quickstudy.training import Trainer

from ..builders import make_blobs

STEPS = 20
SETTINGS = {
    "ways": 4,
    "queries": 3,
    "tasks": 5,  # which neither two nor four processes divide
    "learning_rate": 3e-3,
    "validate_every": 10,
    "validation_episodes": 20,
    "validation_queries": 5,
    "log_every": 1,
    "checkpoint_every": 5,
    "accelerator": "cpu",
    "show_progress": False,
}


def convolutions():
    return Conv4((1, 8, 8), channels=8, blocks=2)


CASES = {
    "prototypes": (  # with running averages and random images
        lambda: PrototypicalNetwork(convolutions()),
        {"augmentation": Augmentation(degrees=20.0, shift=0.1), "clip_norm": 1.0},
    ),
    "maml": (lambda: MAML(convolutions(), ways=4, inner_learning_rate=0.1), {"tasks": 4}),
    "batches": (lambda: Baseline(convolutions(), classes=12), {"batch_size": 16}),
    "dropout": (lambda: FEAT(MLP((1, 8, 8), (16,))), {"optimizer": "sgd"}),
}


class Wide(nn.Module):
    """An encoder whose batches show: it needs more than two of them for the blobs below."""

    def __init__(self):
        super().__init__()
        self.out_features = 17
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 33), nn.ReLU(), nn.Linear(33, 17))

    def forward(self, x):
        return self.layers(x)


EVALUATIONS = {
    "features": (lambda: PrototypicalNetwork(Wide()), {}),
    "few examples": (lambda: PrototypicalNetwork(Wide()), {"episodes": 3}),
    "variable": (lambda: PrototypicalNetwork(Wide()), {"ways": (2, 6), "shots": (1, 3)}),
    "tasks": (lambda: MAML(convolutions(), ways=4), {"queries": 9}),
    "unbalanced": (lambda: FEAT(Wide()), {"query_balance": "dirichlet"}),
}


def made(make):
    torch.manual_seed(0)
    return make()


def train(case, devices, out=None, resume=False, **changed):
    parts = make_blobs().split((0.5, 0.25, 0.25))
    make, settings = CASES[case]
    settings = SETTINGS | {"steps": STEPS, "devices": devices} | settings | changed
    return Trainer(**settings).fit(
        made(make), parts["train"], parts["validation"], out=out, resume=resume
    )


def evaluate(case, **changed):
    """The report as numbers, times left out, and the accuracy of each episode."""
    make, protocol = EVALUATIONS[case]
    protocol = {"ways": 4, "shots": 2, "queries": 4, "episodes": 90} | protocol | changed
    report = quickstudy.evaluate(made(make), make_blobs(each=48), **protocol)
    numbers = {k: v for k, v in report.to_dict().items() if not k.endswith("seconds")}
    return json.loads(json.dumps(numbers)), report.accuracies.tolist()


def differing(run):
    """By how much any weight differs between ranks."""
    weights = torch.cat([each.flatten().double() for each in run.strategy.state_dict().values()])
    of_ranks = gathered([weights], "cpu").view(ranks(), -1)
    return float((of_ranks - of_ranks[0]).abs().max())


@contextmanager
def clock_of_this_rank():
    """The clock moves on by itself, on each rank by another number of seconds a look."""
    with pytest.MonkeyPatch.context() as patch:
        looks = itertools.count(step=10 * (1 + rank()))
        patch.setattr("quickstudy.training.loop.time.perf_counter", lambda: float(next(looks)))
        yield


def main(devices, folder):
    torch.set_num_threads(1)
    result = {"losses": {}, "between ranks": {}, "best": {}}
    for case in CASES:
        run = train(case, devices)
        result["losses"][case] = [row["loss"] for row in run.history]
        result["best"][case] = [run.progress["best_step"], run.progress["best_accuracy"]]
        result["between ranks"][case] = differing(run)
        if rank() == 0:
            weights = {k: v.contiguous() for k, v in run.strategy.state_dict().items()}
            save_file(weights, folder / f"{case}.safetensors")
    train("prototypes", devices, folder / "begun by one", resume=True)
    train("prototypes", devices, folder / "begun by several", steps=STEPS // 2)
    with clock_of_this_rank():
        timed = train("batches", devices, steps=10**6, max_minutes=1)
    step = torch.tensor([float(timed.progress["step"])])
    result["timed steps"] = gathered([step], "cpu").tolist()
    result["reports"] = {case: evaluate(case) for case in EVALUATIONS}
    if rank() == 0:
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
