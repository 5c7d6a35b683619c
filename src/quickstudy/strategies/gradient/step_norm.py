"""Batch normalisation that has weights and running averages for each inner step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.strategies.strategy import Theta

MOMENTUM = 0.1
"""The share of a new batch in running averages."""


class StepNorm(nn.Module):
    """What a batch normalisation has for each of θ_0 .. θ_S: tables of S + 1 rows.

    Args:
        layer: a layer that uses a task's statistics; its weights become buffers, which these
            replace.
        steps: S.
        weights: learn scales and shifts.
        statistics: keep running averages.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, layer: nn.Module, steps: int, weights: bool, statistics: bool) -> None:
        super().__init__()
        own = {name: layer._parameters.get(name) for name in ("weight", "bias")}
        learned = {n: p.detach() for n, p in own.items() if p is not None and p.requires_grad}
        self.weights = tuple(learned) if weights else ()
        self.statistics = statistics
        for name in self.weights:
            value = learned[name]
            self.register_parameter(name, nn.Parameter(value.repeat(steps + 1, 1)))
            delattr(layer, name)
            # A row of the table is always given in its place, so its values are never read.
            unread = torch.full_like(value, float(name == "weight"))
            layer.register_buffer(name, unread, persistent=False)
        if statistics:
            for name in ("mean", "var"):
                self.register_buffer(name, getattr(layer, name).repeat(steps + 1, 1))

    def of_step(self, step: int) -> Theta:
        """The rows of a step by their names in the layer; the last rows for steps beyond S."""
        names = self.weights + ("mean", "var") * self.statistics
        tables = {name: getattr(self, name) for name in names}
        return {name: table[min(step, len(table) - 1)] for name, table in tables.items()}

    @torch.no_grad()
    def keep(self, mean: Tensor, var: Tensor) -> None:
        """Takes statistics ``[T, S + 1, C]`` of the steps of T tasks into the averages."""
        for table, new in ((self.mean, mean), (self.var, var)):
            rows = min(len(table), new.shape[1])
            table[:rows].lerp_(new.mean(0)[:rows], MOMENTUM)
