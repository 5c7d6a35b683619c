"""Mathematics that strategies share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from quickstudy.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
Distance = Literal["euclidean", "cosine"]
SMALL_TASK = 2**12
"""Above this many input elements per task, arithmetic outweighs launch overhead."""
HALVES = (torch.bfloat16, torch.float16)


def check_distance(distance: str) -> None:
    """Refuses a distance that :func:`similarity` does not know."""
    if distance not in get_args(Distance):
        raise InputError(f"The distance {distance!r} is unknown; choose euclidean or cosine.")


def in_full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Computes in float32 at least, also under autocast.

    Means of few examples and distances, which are differences of large numbers, need it.
    """

    def widened(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        tensors = [a for a in (*arguments, *named.values()) if isinstance(a, Tensor)]
        # These are called for every few tasks: nothing is walked through that needs no change.
        if any(tensor.dtype in HALVES for tensor in tensors):
            arguments, named = tree_map(widened, (arguments, named))
        if not torch.is_autocast_enabled(tensors[0].device.type):
            return function(*arguments, **named)
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*arguments, **named)

    return wrapped


@in_full_precision
def task_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of classes, or the mean squared error of numbers.

    Args:
        outputs: logits ``[..., ways]``, or predictions ``[..., D]``.
        targets: int64 ``[...]``, or float ``[..., D]``.
    """
    if targets.is_floating_point():
        return F.mse_loss(outputs, targets)
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


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
def mean_feature(features: Tensor) -> Tensor:
    """The mean ``[T, 1, D]`` of features ``[T, N, D]``."""
    return features.mean(1, keepdim=True)


@in_full_precision
def root_mean_square(features: Tensor, centre: Tensor) -> Tensor:
    """How far ``[T, 1, 1]`` features ``[T, N, D]`` are from their centre ``[T, 1, D]``."""
    squares = (features - centre).square().sum(-1).mean(1)
    return squares.clamp(min=1e-12).sqrt()[:, None, None]


@in_full_precision
def similarity(queries: Tensor, references: Tensor, distance: Distance) -> Tensor:
    """How near queries ``[T, Q, D]`` are to references ``[T, K, D]``: ``[T, Q, K]``.

    "euclidean" is minus the squared distance, "cosine" the cosine of the angle.
    """
    check_distance(distance)
    if distance == "cosine":
        return F.normalize(queries, dim=-1) @ F.normalize(references, dim=-1).transpose(1, 2)
    squares = squared_lengths(queries)[:, :, None] + squared_lengths(references)[:, None, :]
    return torch.baddbmm(squares, queries, references.transpose(1, 2), beta=-1, alpha=2)


def attend_beside_oneself(
    query: Tensor, keys: Tensor, values: Tensor, own_key: Tensor, own_value: Tensor
) -> Tensor:
    """Attention of each of Q queries to the N examples of the support and to itself alone.

    The same as attention among all N + Q under a mask, without the Q x Q products that it hides.

    Args:
        query: ``[..., Q, d]``.
        keys: ``[..., N, d]``.
        values: ``[..., N, d]``.
        own_key: ``[..., Q, d]``.
        own_value: ``[..., Q, d]``.

    Returns:
        ``[..., Q, d]``.
    """
    own = (query * own_key).sum(-1, keepdim=True)
    shares = torch.cat([query @ keys.mT, own], dim=-1).softmax(-1)
    return shares[..., :-1] @ values + shares[..., -1:] * own_value


def squared_lengths(x: Tensor) -> Tensor:
    """|x|² of vectors ``[..., D]``: ``[...]``."""
    if x.requires_grad:
        return x.square().sum(-1)
    length: Tensor = torch.linalg.vector_norm(x, dim=-1)  # the squares are nowhere stored
    return length.square()


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], *arguments: Any) -> Any:
    """The answer of ``module`` with ``tensors`` for those of its parameters and buffers.

    ``torch.func.functional_call``, which leaves its own tensors in a module that is reached by
    several names (torch 2.13): of such names one is used.

    Args:
        module: stays as it is.
        tensors: by the names that ``named_parameters`` and ``named_buffers`` give.
        arguments: of the forward pass.
    """
    places = list(module.named_modules(remove_duplicate=False))
    once = {id(part): name for name, part in reversed(places)}
    if len(once) == len(places):
        return functional_call(module, dict(tensors), arguments)
    names: dict[int, list[str]] = {}  # of each tensor, one for each part that holds it
    for name, part in places:
        if once[id(part)] == name:
            held = (*part._parameters.items(), *part._buffers.items())
            for key, tensor in held:
                names.setdefault(id(tensor), []).append(f"{name}.{key}" if name else key)
    all_of = {name: same for same in names.values() for name in same}
    untied = {same: tensor for name, tensor in tensors.items() for same in all_of[name]}
    return functional_call(module, untied, arguments, tie_weights=False)


def map_tasks(function: Callable[..., Any], *arguments: Any, at_once: bool = True) -> Any:
    """Applies ``function`` to each task of ``arguments`` and stacks what it returns.

    Arguments and results are trees of tensors whose first axis is the task; ``function`` sees them
    without it. On a GPU, and where inputs are short vectors, all tasks run at once (``vmap``). On a
    CPU tasks of images run one after another, which is faster there: a task's tensors stay in the
    cache, and layers keep their fused kernels. Without ``at_once`` they go one after another
    everywhere, which takes less memory.
    """
    if at_once and maps_at_once(arguments):
        return torch.func.vmap(function, randomness="different")(*arguments)
    results = [
        function(*tree_map(lambda leaf, task=task: leaf[task], arguments))
        for task in range(len(tree_leaves(arguments)[0]))
    ]
    return tree_map(lambda *each: torch.stack(each), *results)


def maps_at_once(arguments: Any) -> bool:
    """Whether :func:`map_tasks` takes these tasks all at once."""
    leaves = tree_leaves(arguments)
    return len(leaves[0]) > 1 and (leaves[0].is_cuda or all(map(is_small, leaves)))


def is_small(tensor: Tensor) -> bool:
    """Whether ``[T, ...]`` has only few numbers per task, in vectors or a matrix.

    For these, launching a hundred small operations costs more than the arithmetic.
    """
    plain = tensor.ndim < 3 or (tensor.ndim == 3 and tensor.is_floating_point())
    return plain and tensor[0].numel() <= SMALL_TASK
