"""Where the time of quickstudy's steps and training runs goes."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.peers import ours
from benchmarks.speed.peers.work import Problem, Work, weights
from quickstudy import ClassDataset, EpisodeSampler, Strategy, fit
from quickstudy.encoders import Conv4
from quickstudy.inputs import Augmentation, ImageInputs
from quickstudy.strategies import MAML, PrototypicalNetwork

KINDS = {
    "convolutions": ("conv",),
    "normalisation": ("batch_norm", "batchnorm"),
    "pooling and activation": ("max_pool", "relu", "threshold", "clamp_min"),
}
"""Parts of operators' names, tried in this order."""

CHANGES = Augmentation(degrees=10, shift=0.07, scale=0.15, shear=0.1, share=0.75)


def kind(operator: str) -> str:
    """What sort of work an operator does."""
    names = (name for name, parts in KINDS.items() if any(part in operator for part in parts))
    return next(names, "the rest")


def step(problem: Problem, *, strategy: str, ways: int, repetitions: int = 20) -> Work:
    """The shares of operators' own time in the loss and its gradient of one task.

    Run gives the shares by kind, and the largest single operators of the rest.
    """
    learner: Strategy
    if strategy == "MAML":
        learner = MAML(Conv4(input_shape=(1, 28, 28)), ways, transductive=True)
    else:
        learner = PrototypicalNetwork(Conv4(input_shape=(1, 28, 28)))
    ours.start_from(learner, weights(problem))
    task = ours.as_episode(problem, ways)

    def once() -> None:
        learner.zero_grad()
        torch.autograd.backward(learner.loss(task)[0])

    def run() -> dict[str, Any]:
        for _ in range(3):
            once()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(repetitions):
                once()
        own = {e.key: float(e.self_cpu_time_total) for e in profiler.key_averages()}
        total = sum(own.values())
        shares: dict[str, float] = defaultdict(float)
        for operator, microseconds in own.items():
            shares[kind(operator)] += microseconds / total
        rest = {key: value / total for key, value in own.items() if kind(key) == "the rest"}
        return {
            "milliseconds": total / repetitions / 1000,
            "shares": shares,
            "largest_of_the_rest": dict(sorted(rest.items(), key=lambda pair: -pair[1])[:5]),
        }

    return Work(run)


class Stopwatch:
    """Adds up the time that the main thread spends in some methods, however they are called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: type, method: str, label: str) -> None:
        """Replaces ``owner.method`` by one that is timed under ``label``."""
        original: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                # What other threads do, training does not wait for.
                if threading.current_thread() is threading.main_thread():
                    self.seconds[label] += time.perf_counter() - started

        setattr(owner, method, timed)


def training(
    problem: Problem,
    *,
    strategy: str,
    ways: int,
    queries: int,
    tasks: int,
    steps: int,
    augment: bool,
) -> Work:
    """The shares of a training run that are spent on data: 1,600 classes of 20 images, 28x28."""
    images = torch.randint(0, 256, (400 * 20, 1, 28, 28), dtype=torch.uint8)
    names = [f"class {number}" for number in range(400)]
    inputs = ImageInputs(size=28, channels=1)
    data = ClassDataset.contiguous(images, [20] * 400, names, inputs).expand(4)
    settings: dict[str, Any] = {"ways": ways, "queries": queries, "tasks": tasks}
    settings |= {"augmentation": CHANGES if augment else Augmentation(), "show_progress": False}
    watch = Stopwatch()
    watch.watch(EpisodeSampler, "indices", "sampling")
    watch.watch(ClassDataset, "gather", "gathering")
    watch.watch(Augmentation, "__call__", "augmentation")

    def learner() -> Strategy:
        encoder = Conv4(input_shape=(1, 28, 28))
        if strategy == "MAML":
            return MAML(encoder, ways, transductive=True)
        return PrototypicalNetwork(encoder)

    def run() -> dict[str, Any]:
        fit(learner(), data, steps=2, **settings)
        watch.seconds.clear()
        seconds = fit(learner(), data, steps=steps, **settings).progress["seconds"]
        shares = {label: spent / seconds for label, spent in watch.seconds.items()}
        return {
            "milliseconds": 1000 * seconds / steps,
            "shares": shares,
            "waiting": sum(shares.values()),
        }

    return Work(run)
