"""The part of a hypernetwork that writes the weights of a whole network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.strategies.strategy import Theta


class WeightDecoder(nn.Module):
    """Writes a tensor row by row, each row from a slot that looks at what was read of a task.

        u_pj = e_pj + attention(e_pj, tokens),   c_pj = LayerNorm(u_pj + mlp(u_pj))
        Δ_pj = R_p c_pj / √(numbers in a row of p)

    e_pj is learned and stands for row j of tensor p: all weights that lead to one unit. R_p is
    shared by the rows of a tensor, as in a chunked hypernetwork (Ha, Dai, Le 2017); slots that
    attend to the support are HyperTransformer's (Zhmoginov, Sandler, Vladymyrov 2022).

    A row's length stands for its fan-in, so that a change of any tensor has the scale of that
    tensor's usual initialisation, times ``change`` at the beginning of meta-training (after Chang,
    Flokas, Lipson, "Principled Weight Initialization for Hypernetworks", ICLR 2020).

    Args:
        shapes: of the tensors to write, by name; the first axis of each counts its rows.
        width: of tokens and slots.
        change: the size of the first changes, relative to usual weights.
        heads: number of heads of the attention.
    """

    def __init__(
        self, shapes: Mapping[str, torch.Size], width: int, change: float, heads: int = 4
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"The width {width} must be a multiple of the decoder's {heads} heads."
            )
        self.heads = heads
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.rows = [shape[0] if shape else 1 for shape in self.shapes.values()]
        self.slots = nn.Parameter(torch.randn(sum(self.rows), width))
        self.slot_norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, width)
        # A key's bias would add the same to all scores of a slot.
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width)
        self.merge = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.readouts = nn.ModuleList()
        for shape in self.shapes.values():
            readout = nn.Linear(width, math.prod(shape[1:]), bias=False)
            nn.init.normal_(readout.weight, std=change * width**-0.5)
            self.readouts.append(readout)

    def codes(self, tokens: Tensor) -> Tensor:
        """c: a code for each row of each tensor, ``[T, rows, width]``.

        Args:
            tokens: ``[T, N, width]``; their order does not matter.
        """
        query = self.queries(self.slot_norm(self.slots)).expand(len(tokens), -1, -1)
        query, key, value = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (query, self.keys(tokens), self.values(tokens))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        slots = self.slots + self.merge(attended.transpose(1, 2).flatten(2))
        codes: Tensor = self.norm(slots + self.mlp(slots))
        return codes

    def forward(self, tokens: Tensor) -> Theta:
        """Changes Δ ``[T, *shape]`` of every tensor by its name, from tokens ``[T, N, width]``."""
        changes: Theta = {}
        parts = torch.split(self.codes(tokens), self.rows, dim=1)
        for (name, shape), part, readout in zip(
            self.shapes.items(), parts, self.readouts, strict=True
        ):
            rows: Tensor = readout(part) * math.prod(shape[1:]) ** -0.5
            changes[name] = rows.reshape(-1, *shape)
        return changes
