"""easyfsl, used as its examples show."""

from __future__ import annotations

import random
import sys
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from benchmarks.speed.peers.plain import Conv4, gradients
from benchmarks.speed.peers.work import Problem, Work, tasks, weights


class _StandIn(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _stand_in_for_torchvision() -> None:
    """Lets easyfsl import names from torchvision, none of which the measured code touches."""
    for name in ("", ".datasets", ".models", ".models.resnet", ".transforms", ".utils"):
        sys.modules[f"torchvision{name}"] = _StandIn(f"torchvision{name}")


def _accept_data_source() -> None:
    """Lets samplers be made with the argument ``data_source``, which torch has dropped."""

    def accept(self: Sampler[object], data_source: object = None) -> None:
        """What older versions of torch did: nothing."""

    Sampler.__init__ = accept  # type: ignore[method-assign, assignment]


_stand_in_for_torchvision()
_accept_data_source()

from easyfsl.datasets import FeaturesDataset  # type: ignore[import-not-found]  # noqa: E402
from easyfsl.methods import PrototypicalNetworks  # type: ignore[import-not-found]  # noqa: E402
from easyfsl.samplers import TaskSampler  # type: ignore[import-not-found]  # noqa: E402
from easyfsl.utils import evaluate  # type: ignore[import-not-found]  # noqa: E402


def prototypes(problem: Problem, *, ways: int) -> Work:
    """The gradient of a training step."""
    encoder = Conv4(running=True)
    encoder.load_state_dict(weights(problem), strict=False)
    model = PrototypicalNetworks(encoder).train()
    support, labels, query, targets = tasks(problem)[0]

    def run() -> float:
        model.zero_grad()
        model.process_support_set(support, labels)
        loss = F.cross_entropy(model(query), targets)
        torch.autograd.backward(loss)
        return loss.item()

    return Work(run, lambda: gradients(encoder))


def evaluation(problem: Problem, *, episodes: int) -> Work:
    """The accuracy over many episodes of stored features, 5-way 1-shot, 15 queries."""
    labels = problem["labels"].tolist()
    names = [str(number) for number in range(len(set(labels)))]
    data = FeaturesDataset(labels, problem["features"], names)
    sampler = TaskSampler(data, n_way=5, n_shot=1, n_query=15, n_tasks=episodes)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    model = PrototypicalNetworks(nn.Identity())
    random.seed(0)
    return Work(lambda: evaluate(model, loader, device="cpu", use_tqdm=False))


def sampler(problem: Problem, *, episodes: int) -> Work:
    """Draws the indices of ``episodes`` tasks, 5-way 1-shot, 15 queries; returns how many."""
    labels = problem["labels"].tolist()
    data = FeaturesDataset(labels, torch.empty(len(labels), 0), [])
    drawing = TaskSampler(data, n_way=5, n_shot=1, n_query=15, n_tasks=episodes)
    return Work(lambda: sum(1 for _ in drawing))
