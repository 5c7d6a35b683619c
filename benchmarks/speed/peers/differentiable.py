"""Libraries that differentiate through optimisers: higher and TorchOpt, used as they document."""

from __future__ import annotations

import higher  # type: ignore[import-not-found]
import torch
import torch.nn.functional as F
import torchopt  # type: ignore[import-not-found]

from benchmarks.speed.peers.plain import gradients, network
from benchmarks.speed.peers.work import Problem, Work, tasks, weights


def maml_higher(
    problem: Problem, *, pooling: str, inner_steps: int, rate: float, ways: int = 5
) -> Work:
    """The MAML gradient with ``higher.innerloop_ctx``."""
    model = network(pooling, ways)
    model.load_state_dict(weights(problem))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)

    def run() -> float:
        model.zero_grad()
        batch = tasks(problem)
        total = 0.0
        for support, labels, query, targets in batch:
            with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (
                learner,
                inner,
            ):
                for _ in range(inner_steps):
                    inner.step(F.cross_entropy(learner(support), labels))
                loss = F.cross_entropy(learner(query), targets) / len(batch)
                torch.autograd.backward(loss)
            total += loss.item()
        return total

    return Work(run, lambda: gradients(model))


def maml_torchopt(
    problem: Problem, *, pooling: str, inner_steps: int, rate: float, ways: int = 5
) -> Work:
    """The MAML gradient with ``torchopt.MetaSGD``."""
    model = network(pooling, ways)
    model.load_state_dict(weights(problem))
    inner = torchopt.MetaSGD(model, lr=rate)

    def run() -> float:
        model.zero_grad()
        start = torchopt.extract_state_dict(model, by="reference", detach_buffers=True)
        inner_start = torchopt.extract_state_dict(inner, by="reference")
        batch = tasks(problem)
        total = 0.0
        for support, labels, query, targets in batch:
            for _ in range(inner_steps):
                inner.step(F.cross_entropy(model(support), labels))
            loss = F.cross_entropy(model(query), targets) / len(batch)
            torch.autograd.backward(loss)
            total += loss.item()
            torchopt.recover_state_dict(model, start)
            torchopt.recover_state_dict(inner, inner_start)
        return total

    return Work(run, lambda: gradients(model))
