"""Mathematics that strategies share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

Distance = Literal["euclidean", "cosine"]


def class_means(features: Tensor, targets: Tensor, ways: int) -> Tensor:
    """The mean feature of each class.

    Args:
        features: ``[T, N, D]``.
        targets: ``[T, N]`` int64 in 0..ways-1.
        ways: the number of classes.

    Returns:
        ``[T, ways, D]``; zeros for a class without examples.
    """
    members = F.one_hot(targets, ways).to(features.dtype)  # [T, N, ways]
    counts = members.sum(1).clamp(min=1)
    return members.transpose(1, 2) @ features / counts[:, :, None]


def similarity(queries: Tensor, references: Tensor, distance: Distance) -> Tensor:
    """How near queries ``[T, Q, D]`` are to references ``[T, K, D]``: ``[T, Q, K]``.

    "euclidean" is minus the squared distance, "cosine" the cosine of the angle. Computed in float32
    even under autocast: distances are differences of large numbers.
    """
    with torch.autocast(queries.device.type, enabled=False):
        return _similarity(_at_least_float32(queries), _at_least_float32(references), distance)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _similarity(queries: Tensor, references: Tensor, distance: Distance) -> Tensor:
    if distance == "euclidean":
        squares = queries.square().sum(-1)[:, :, None] + references.square().sum(-1)[:, None, :]
        return 2 * queries @ references.transpose(1, 2) - squares
    if distance == "cosine":
        return F.normalize(queries, dim=-1) @ F.normalize(references, dim=-1).transpose(1, 2)
    raise ValueError(f"The distance {distance!r} is unknown; choose euclidean or cosine.")


def map_tasks(function: Callable[..., Any], *arguments: Any) -> Any:
    """Applies ``function`` to each task of ``arguments`` and stacks what it returns.

    Arguments and results are trees of tensors whose first axis is the task; ``function`` sees them
    without it. On a GPU all tasks run at once (``vmap``); on a CPU one after another, which is
    faster there: a task's tensors stay in the cache, and layers keep their fused kernels.
    """
    leaves: list[Tensor] = []
    tree_map(leaves.append, arguments)
    if leaves[0].is_cuda:
        return torch.func.vmap(function, randomness="different")(*arguments)
    results = [
        function(*tree_map(lambda leaf, task=task: leaf[task], arguments))
        for task in range(leaves[0].shape[0])
    ]
    return tree_map(lambda *each: torch.stack(each), *results)
