"""Sums over the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

if TYPE_CHECKING:
    from quickstudy.training.trainer import Trainer


def launch(settings: Trainer) -> Fabric:
    """Starts the processes that ``settings`` ask for.

    Raises:
        ValueError: when this machine does not have what they name.
    """
    ranks = settings.devices * settings.nodes
    try:
        fabric = Fabric(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy="ddp" if ranks > 1 else "auto",
            precision=settings.precision,
        )
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{settings.devices} devices of accelerator {settings.accelerator!r} cannot be had "
            f"here: {error}"
        ) from error
    fabric.launch()
    return fabric


def sum_over_ranks(fabric: Fabric, tensors: Sequence[Tensor], numbers: list[float]) -> list[float]:
    """Sums tensors in place, and numbers, over all ranks; one message for all.

    Args:
        fabric: the launched processes.
        tensors: float tensors of the same shapes on each rank.
        numbers: as many on each rank.

    Returns:
        The sums of the numbers.
    """
    if fabric.world_size == 1:
        return numbers
    scalars = torch.tensor(numbers, device=fabric.device, dtype=torch.float64)
    flat = torch.cat([t.flatten().double() for t in tensors] + [scalars])
    total = fabric.all_reduce(flat, reduce_op="sum")
    assert isinstance(total, Tensor)
    start = 0
    for tensor in tensors:
        tensor.copy_(total[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
    return [float(x) for x in total[start:]]


def gradients(module: nn.Module) -> list[Tensor]:
    """The gradients of all learned parameters; zeros where this rank's tasks gave none."""
    found = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
    return found


def same_everywhere(fabric: Fabric, module: nn.Module) -> None:
    """Gives every rank the parameters and buffers of rank 0."""
    if fabric.world_size > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.data.copy_(fabric.broadcast(tensor.data))
