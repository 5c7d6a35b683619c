"""An exponential moving average of what is learned, and the strategy with it in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """φ's exponential moving average over the steps of training, running averages included.

    After step t, φ̄ ← d φ̄ + (1 − d) φ with d = min(decay, t / (t + 9)), so that it does not remember
    where φ began. (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging",
    1992; on generalisation: Izmailov et al., "Averaging weights leads to wider optima and better
    generalization", 2018.) What is not a number with a fraction, such as a counter, is as in φ.

    Args:
        module: whose state is averaged.
        decay: d after many steps, at least 0 and less than 1.

    Attributes:
        state: φ̄, as a state dict.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = copied(module.state_dict())
        tensors = (module.named_parameters, module.named_buffers)
        self.averaged = {
            name
            for named in tensors
            for name, value in named(remove_duplicate=False)
            if name in self.state and value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Takes in φ after its update number ``step``, counted from 1."""
        weight = 1 - min(self.decay, step / (step + 9))
        for name, value in module.state_dict().items():
            if name in self.averaged:
                self.state[name].lerp_(value, weight)
            else:
                self.state[name] = value.detach().clone()

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """``module`` with φ̄ as its parameters; afterwards it has its own again."""
        own = copied(module.state_dict())
        module.load_state_dict(self.state)
        try:
            yield
        finally:
            module.load_state_dict(own)


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of its own memory."""
    return {name: value.detach().clone() for name, value in state.items()}
