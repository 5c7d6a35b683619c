"""Where to compute."""

from __future__ import annotations

import torch
from torch import nn

from quickstudy.errors import InputError


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters; the CPU if it has none."""
    return next((each.device for each in module.parameters()), torch.device("cpu"))


def usable_device(name: str | torch.device) -> torch.device:
    """A device by its name, such as "cuda".

    Raises:
        ValueError: when there is none here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"The device {name!r} cannot be used here: {error}") from error
    return device
