"""Mathematics that strategies share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.encoders.normalization import transformed

P = ParamSpec("P")
Distance = Literal["euclidean", "cosine"]


def check_distance(distance: str) -> None:
    """Refuses a distance that :func:`similarity` does not know."""
    if distance not in get_args(Distance):
        raise ValueError(f"The distance {distance!r} is unknown; choose euclidean or cosine.")


def in_full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Computes in float32 at least, also under autocast.

    Means of few and distances, which are differences of large numbers, do not bear less.
    """

    def widened(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if half else value

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> Tensor:
        arguments, named = tree_map(widened, (arguments, named))
        first = next(a for a in (*arguments, *named.values()) if isinstance(a, Tensor))
        with torch.autocast(first.device.type, enabled=False):
            return function(*arguments, **named)

    return wrapped


@in_full_precision
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


@in_full_precision
def similarity(queries: Tensor, references: Tensor, distance: Distance) -> Tensor:
    """How near queries ``[T, Q, D]`` are to references ``[T, K, D]``: ``[T, Q, K]``.

    "euclidean" is minus the squared distance, "cosine" the cosine of the angle.
    """
    check_distance(distance)
    if distance == "cosine":
        return F.normalize(queries, dim=-1) @ F.normalize(references, dim=-1).transpose(1, 2)
    squares = queries.square().sum(-1)[:, :, None] + references.square().sum(-1)[:, None, :]
    return 2 * queries @ references.transpose(1, 2) - squares


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


def gradient(
    function: Callable[[dict[str, Tensor]], Tensor],
    theta: dict[str, Tensor],
    first_order: bool = False,
) -> dict[str, Tensor]:
    """∇ function(theta), which can itself be differentiated unless ``first_order``.

    Args:
        function: from θ to a number.
        theta: tensors of any shapes.
        first_order: give the gradient as a constant, and keep nothing that led to it.
    """
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or transformed():
        found = torch.func.grad(function)(theta)
        return {name: each.detach() for name, each in found.items()} if first_order else found
    # Outside of torch.func's transformations, autograd by itself has less to do.
    wanted = torch.is_grad_enabled() and not first_order
    with torch.enable_grad():
        start = {
            name: each if wanted and each.requires_grad else each.detach().requires_grad_()
            for name, each in theta.items()
        }
        gradients = torch.autograd.grad(
            function(start), list(start.values()), create_graph=wanted, materialize_grads=True
        )
    return dict(zip(theta, gradients, strict=True))
