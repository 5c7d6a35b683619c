"""How much memory there is, and how much a task takes."""

from __future__ import annotations

import math
import sys
import weakref
from pathlib import Path

import torch
from torch import Tensor

from quickstudy.episodes import Episode
from quickstudy.strategies import Strategy

DEEP = 4
"""Inner steps from which on a task's memory is estimated instead of taken."""


def peak_memory(device: torch.device | None = None) -> int:
    """The most memory that this process has held, in bytes; 0 where it is not told."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on this system
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory(device: torch.device | None = None) -> float:
    """The memory that can be had, in bytes; infinite where it is not told."""
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if not told.exists():
        return math.inf
    lines = dict(line.split(":", 1) for line in told.read_text().splitlines())
    return 1024.0 * int(lines["MemAvailable"].split()[0])


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def held_bytes(strategy: Strategy, task: Episode) -> int:
    """What autograd holds after the loss of ``task``, until its gradient is computed."""
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
    """What a task with many inner steps will hold, from what one with few holds.

    Memory grows by the same for each step of an inner loop, so that of two and of three steps
    tells that of any number.

    Returns:
        Bytes; nothing if the strategy has no ``inner_steps``, or few.
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
    """What to say of a task with many inner steps that will not fit in memory; nothing if it will.

    The task is computed with few steps, in the precision that holds where this is called.
    """
    needed, free = deep_loop_bytes(strategy, task), free_memory(device)
    if needed is None or needed < free:
        return ""
    return (
        f"A task will hold about {needed / 2**30:.1f} GiB until its gradient is computed, and "
        f"{free / 2**30:.1f} GiB are free: this run is likely to end for want of memory. Fewer "
        "inner steps hold less, and so does recompute (--strategy.recompute true)."
    )
