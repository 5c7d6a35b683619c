"""The random numbers of training: a function of seed, step and task."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_all(
    device: torch.device, seed: int, step: int, task: int, *, others: bool = False
) -> None:
    """Makes the random numbers of a task a function of (seed, step, task).

    Only the generators that are used: torch.manual_seed formats a stack trace for each kind of
    accelerator that is not there, a millisecond in all.

    Args:
        device: where the task is computed.
        seed: random seed of the run.
        step: step of the run.
        task: its number in the step.
        others: also seed Python's and NumPy's generators, which third-party networks can use.
    """
    state = int(np.random.SeedSequence([seed, step, task]).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(state)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(state)
    if others:
        random.seed(state)
        np.random.seed(state % 2**32)  # noqa: NPY002 # what somebody's network draws from
