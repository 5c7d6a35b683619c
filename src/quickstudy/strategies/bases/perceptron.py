"""Fully connected layers, of which the small networks of this family are made."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def perceptron(
    *widths: int, activation: type[nn.Module] = nn.ReLU, last_bias: bool = True
) -> nn.Sequential:
    """Linear layers of vectors ``[..., widths[0]]``, with an activation between each two.

    Args:
        *widths: of the inputs, of each hidden layer, of the outputs.
        activation: after each layer but the last.
        last_bias: whether the last layer has one.
    """
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for number, (wide_in, wide_out) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(wide_in, wide_out, bias=last_bias or number < last))
        if number < last:
            layers.append(activation())
    return nn.Sequential(*layers)
