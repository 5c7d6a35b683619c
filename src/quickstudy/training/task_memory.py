"""How much memory is free, and how much a task takes."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from quickstudy.compute.memory import free_memory
from quickstudy.episodes import Episode
from quickstudy.strategies import Strategy

DEEP = 4
"""From this number of inner steps on, a task's memory is estimated before it is used."""


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def held_bytes(strategy: Strategy, task: Episode) -> int:
    """The memory that autograd holds between the loss of ``task`` and its gradient."""
    alive: weakref.WeakSet[_Held] = weakref.WeakSet()

    def hold(tensor: Tensor) -> _Held:
        alive.add(held := _Held(tensor))
        return held

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
        loss = strategy.loss(task)  # and its logits
    storages = [held.tensor.untyped_storage() for held in alive]
    del loss
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


def has_deep_loop(strategy: Strategy) -> bool:
    """Whether the strategy has an inner loop of many steps."""
    steps = getattr(strategy, "inner_steps", 0)
    return isinstance(steps, int) and steps >= DEEP


def deep_loop_bytes(strategy: Strategy, task: Episode) -> int | None:
    """The memory that a task with many inner steps will hold, extrapolated from few steps.

    Each inner step adds the same amount, so two measurements, with two and three steps, suffice.

    Returns:
        Bytes; None if the strategy has no ``inner_steps``, or few.
    """
    if not has_deep_loop(strategy):
        return None
    steps: int = strategy.inner_steps  # type: ignore[assignment]
    held = []
    try:
        for few in (2, 3):
            strategy.inner_steps = few  # type: ignore[assignment]
            held.append(held_bytes(strategy, task))
    finally:
        strategy.inner_steps = steps  # type: ignore[assignment]
    return held[0] + (steps - 2) * (held[1] - held[0])


def deep_loop_warning(strategy: Strategy, task: Episode, device: torch.device) -> str:
    """A warning that a task with many inner steps will not fit in memory; empty if it will.

    The task is computed with few steps, in the precision that is active in the caller.
    """
    needed, free = deep_loop_bytes(strategy, task), free_memory(device)
    if needed is None or needed < free:
        return ""
    return (
        f"A task will hold about {needed / 2**30:.1f} GiB until its gradient is computed, but only "
        f"{free / 2**30:.1f} GiB are free: this run is likely to run out of memory. Use fewer "
        "inner steps, or recompute them (--strategy.recompute true)."
    )
