"""Collective operations of the processes of a run: sum, share and wait.

A single process can call all of this too: it is rank 0 of 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from quickstudy.errors import InputError


class LostContactError(ConnectionError):
    """Another process of the run does not answer any more."""


def in_a_group() -> bool:
    """Whether this process is one of several that were started to work together."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Which of them this process is, from 0."""
    return distributed.get_rank() if in_a_group() else 0


def ranks() -> int:
    """How many they are."""
    return distributed.get_world_size() if in_a_group() else 1


def check_started(asked: int) -> None:
    """Refuses (ValueError) to work with another number of processes than were started already."""
    if in_a_group():
        started = ranks()
    elif distributed.is_available() and distributed.is_torchelastic_launched():
        started = int(os.environ["WORLD_SIZE"])
    else:
        return
    if started != asked:
        raise InputError(
            f"{started} processes were started to work together, and the options ask for {asked}. "
            "Say --devices as torchrun's --nproc-per-node, and --nodes as its --nnodes."
        )


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostContactError(f"Another process of this run does not answer: {error}") from error


def barrier() -> None:
    """Waits until all ranks are here."""
    if ranks() > 1:
        with _talking():
            distributed.barrier()


def sum_over_ranks(
    tensors: Sequence[Tensor], numbers: Sequence[float], device: torch.device | str
) -> list[float]:
    """Sums tensors in place, and numbers, over all ranks; one message for all, in float64.

    Args:
        tensors: float tensors of the same shapes on each rank.
        numbers: as many on each rank.
        device: where ranks compute, over which they exchange what they have.

    Returns:
        The sums of the numbers.
    """
    if ranks() == 1:
        return list(numbers)
    scalars = torch.tensor(numbers, device=device, dtype=torch.float64)
    total = torch.cat([*(each.flatten().to(scalars) for each in tensors), scalars])
    with _talking():
        distributed.all_reduce(total)
    start = 0
    for tensor in tensors:
        tensor.copy_(total[start : start + tensor.numel()].view_as(tensor))
        start += tensor.numel()
    return [float(x) for x in total[start:]]


def zeros_for_none(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Replaces missing tensors by zeros, so that all ranks sum the same shapes."""
    return [
        torch.zeros_like(each) if tensor is None else tensor
        for tensor, each in zip(tensors, like, strict=True)
    ]


def same_everywhere(module: nn.Module) -> None:
    """Gives every rank the parameters and buffers of rank 0."""
    for tensor in [*module.parameters(), *module.buffers()]:
        _send(tensor.data, 0)


def _send(tensor: Tensor, source: int) -> None:
    """Gives every rank the tensor of rank ``source``."""
    if ranks() > 1:
        plain = tensor.contiguous()  # weights can be channels-last
        with _talking():
            distributed.broadcast(plain, source)
        tensor.copy_(plain)


def gathered(parts: Sequence[Tensor], device: torch.device | str) -> Tensor:
    """Joins parts that ranks made in turn: the first by rank 0, the next by rank 1, and so on.

    Args:
        parts: the parts of this rank, each ``[n]``, of any length.
        device: as in :func:`sum_over_ranks`.

    Returns:
        All parts in the order in which one process would have made them, ``[N]`` float64.
    """
    own, all_ = rank(), ranks()
    (count,) = sum_over_ranks([], [float(len(parts))], device)
    lengths = torch.zeros(int(count), dtype=torch.float64)
    lengths[own::all_] = torch.tensor([float(len(part)) for part in parts], dtype=torch.float64)
    sum_over_ranks([lengths], [], device)
    joined = torch.zeros(int(lengths.sum()), dtype=torch.float64, device=device)
    places = torch.split(joined, lengths.long().tolist())
    for place, part in zip(places[own::all_], parts, strict=True):
        place.copy_(part)
    sum_over_ranks([joined], [], device)  # with the others' zeros, which changes nothing
    return joined


def gathered_rows(own: Tensor, count: int, size: int) -> Tensor:
    """Joins ``[count, D]`` rows that ranks made in turn, ``size`` rows per turn.

    Args:
        own: the rows of this rank, ``[n, D]``, n > 0.
        count: number of rows of all ranks.
        size: number of rows per turn; the last turn can have fewer.
    """
    rows = own.new_empty(count, *own.shape[1:])
    pieces = iter(torch.split(own, size))
    for turn, piece in enumerate(torch.split(rows, size)):
        source = turn % ranks()
        if source == rank():
            piece.copy_(next(pieces))
        _send(piece, source)
    return rows
