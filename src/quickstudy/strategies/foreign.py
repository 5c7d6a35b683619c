"""How third-party networks are run: found out by trying once, and remembered.

Inner loops ask more of a network than ordinary training does: second derivatives, other weights for
each task, many tasks in one call (``torch.func.vmap``). Torch does not support all of this for
every layer, and what is missing does not always raise an error: second derivatives through
``nn.LayerNorm`` are silently wrong under vmap. So if a network holds anything but layers that are
known to be right, a strategy first computes a task or two both ways, with their gradients, and
compares.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from quickstudy.encoders.encoder import is_own
from quickstudy.encoders.task_normalization import unrecorded
from quickstudy.errors import InputError
from quickstudy.strategies.functional import call_with, map_tasks, maps_at_once
from quickstudy.strategies.state import random_state, untouched

ROUNDINGS = 1000
"""Differences of so many roundings of the largest number count as rounding; layers that torch maps
wrongly err by far more."""

KNOWN = frozenset(
    {
        *(nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict),
        *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Flatten, nn.Identity, nn.Dropout),
        *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    }
)
"""Layers of torch that tests have shown to be right under vmap, second derivatives included."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_known(module: nn.Module) -> bool:
    """Whether a network consists only of layers that are known to be right in inner loops."""
    return all(type(each) in KNOWN or is_own(each) for each in module.modules())


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks observe or change what passes through the layers inside."""
    return any(
        "forward" in each.__dict__ or any(getattr(each, kind) for kind in HOOKS)
        for each in module.modules()
        if each is not module
    )


@dataclass
class Way:
    """How a function of tasks is computed.

    Args:
        kernels: what is open while it runs.
        at_once: by the shapes of its arguments, whether tasks may be mapped all at once.
    """

    kernels: int
    at_once: dict[Any, bool]


@contextmanager
def running(
    strategy: nn.Module, module: nn.Module, function: Callable[..., Any], *arguments: Any
) -> Iterator[bool]:
    """While this is open, :func:`map_tasks` can run a function that contains third-party layers.

    Args:
        strategy: whose parameters ``function`` depends on.
        module: what ``function`` runs.
        function: of one task.
        *arguments: of the tasks.

    Yields:
        Whether tasks may be mapped all at once.

    Raises:
        ValueError: when the module has no derivatives of the order that the strategy needs.
    """
    if is_known(module):
        yield not is_hooked(module)  # hooks see each task by itself, as in plain torch
        return
    if torch.compiler.is_compiling():
        yield False
        return
    way = _way(strategy, module, function, arguments)
    strategy.__dict__["_kernels"] = way.kernels  # for passes that a way back computes again
    with KERNELS[way.kernels]():
        at_once = False
        if maps_at_once(arguments):
            shapes = tuple(each.shape[1:] for each in tree_leaves(arguments))
            if shapes not in way.at_once:
                way.at_once[shapes] = _maps_rightly(strategy, function, arguments)
            at_once = way.at_once[shapes]
        yield at_once


def writes_inputs(module: nn.Module, theta: dict[str, Tensor], inputs: Tensor) -> bool:
    """Tries whether a module can be adapted to a task, and whether it changes its inputs.

    A forward pass that calls a stored function (such as a lambda over another object) uses the
    module's own parameters where θ should take their place: inner steps would silently change
    nothing.

    Args:
        module: that is run with θ for its parameters.
        theta: θ by the parameters' names.
        inputs: one task's; they stay as they are.

    Raises:
        ValueError: when θ does not take the place of the module's parameters.
    """
    own = dict(module.named_parameters())
    adapted = any(name in own and not name.startswith("head.") for name in theta)
    with torch.enable_grad(), untouched(module), unrecorded(module):
        fixed = {name: each.detach() for name, each in (own | theta).items()}
        given = inputs.detach().clone()
        outputs = call_with(module, fixed, given)
    if adapted and isinstance(outputs, Tensor) and outputs.requires_grad:
        encoder = getattr(module, "encoder", module)
        raise InputError(
            f"The forward pass of {type(encoder).__name__} uses parameters that it does not reach "
            "through the module itself, for instance through a lambda over another object or a "
            "plain list of layers, so they cannot be adapted to a task. Keep layers as attributes "
            "or in an nn.ModuleList, and call them through `self` in methods."
        )
    return given._version > 0


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether tensors are the same but for rounding.

    Rounding is measured by each tensor's largest number, or by a hundredth of the largest of all:
    where a gradient is zero, such as that of a bias that all classes share, rounding is all it has.
    """
    largest = [float(b.abs().max()) if b.numel() else 0.0 for b in other]
    least = 0.01 * max(largest, default=0.0)
    for a, b, size in zip(one, other, largest, strict=True):
        if a.shape != b.shape:
            return False
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return False
        elif not bool(
            ((a - b).abs() <= ROUNDINGS * torch.finfo(a.dtype).eps * max(size, least)).all()
        ):
            return False
    return True


# -- kernels -----------------------------------------------------------------------------------


class _Without:
    """Avoids fast kernels that cannot be differentiated twice, while it is open in any thread.

    Torch keeps the switches for the whole process, so the last one out turns them on again.
    """

    lock = threading.Lock()

    def __init__(self, *switches: tuple[Callable[[], bool], Callable[[bool], None]]) -> None:
        self.switches = switches
        self.inside = 0
        self.before: list[bool] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.inside:
                self.before = [is_on() for is_on, _ in self.switches]
                for _, switch in self.switches:
                    switch(False)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    for (_, switch), on in zip(self.switches, self.before, strict=True):
                        switch(on)


def _attribute(owner: Any, name: str) -> tuple[Callable[[], bool], Callable[[bool], None]]:
    return lambda: getattr(owner, name), lambda on: setattr(owner, name, on)


_cuda = torch.backends.cuda
plain_attention = _Without(
    (_cuda.flash_sdp_enabled, _cuda.enable_flash_sdp),
    (_cuda.mem_efficient_sdp_enabled, _cuda.enable_mem_efficient_sdp),
    (_cuda.cudnn_sdp_enabled, _cuda.enable_cudnn_sdp),
)
plain_layers = _Without(
    _attribute(torch.backends.cudnn, "enabled"), _attribute(torch.backends.mkldnn, "enabled")
)


@contextmanager
def _all_plain() -> Iterator[None]:
    with plain_attention(), plain_layers():
        yield


KERNELS: Sequence[Callable[[], AbstractContextManager[None]]] = (
    nullcontext,
    plain_attention,
    _all_plain,
)
"""Which kernels may be used, the fastest choice first."""


# -- trying ------------------------------------------------------------------------------------


def _way(
    strategy: nn.Module, module: nn.Module, function: Callable[..., Any], arguments: Any
) -> Way:
    """How to run a function, remembered in the strategy for its current mode."""
    ways: dict[Any, Way] = strategy.__dict__.setdefault("_ways", {})
    like = next(strategy.parameters(), torch.zeros(()))
    key = (
        getattr(getattr(function, "func", function), "__qualname__", ""),
        strategy.training,
        torch.is_grad_enabled(),
        getattr(strategy, "first_order", None),
        min(2, getattr(strategy, "steps", 2)),
        like.dtype,
        like.device.type,
    )
    if key not in ways:
        ways[key] = Way(_kernels(strategy, module, function, arguments), {})
    return ways[key]


def _kernels(
    strategy: nn.Module, module: nn.Module, function: Callable[..., Any], arguments: Any
) -> int:
    """The first of :data:`KERNELS` that has all derivatives of one task."""
    first: RuntimeError | None = None
    for number, kernels in enumerate(KERNELS):
        try:
            with kernels():
                _outcome(strategy, function, arguments, 1, at_once=False)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            first = first or error
        else:
            return number
    assert first is not None
    if getattr(strategy, "first_order", True) is False and torch.is_grad_enabled():
        try:
            strategy.first_order = True  # type: ignore[assignment]
            _outcome(strategy, function, arguments, 1, at_once=False)
        except RuntimeError:
            raise first from None
        finally:
            strategy.first_order = False  # type: ignore[assignment]
        encoder = getattr(module, "encoder", module)
        raise InputError(
            f"{type(strategy).__name__} needs second derivatives, but {type(encoder).__name__} has "
            "an operation without any. Use first_order=True, FOMAML or Reptile, or another "
            "encoder."
        ) from first
    raise first


def _maps_rightly(strategy: nn.Module, function: Callable[..., Any], arguments: Any) -> bool:
    """Whether computing two tasks at once gives the same values and gradients as one by one."""
    try:
        expected, drew = _outcome(strategy, function, arguments, 2, at_once=False)
        if drew:
            return False  # it cannot be compared
        with warnings.catch_warnings():
            # Where torch itself would loop over the tasks, vmap is not faster.
            warnings.filterwarnings("error", "There is a performance drop")
            found, _ = _outcome(strategy, function, arguments, 2, at_once=True)
    except (RuntimeError, UserWarning) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return alike(found, expected)


def _outcome(
    strategy: nn.Module, function: Callable[..., Any], arguments: Any, tasks: int, *, at_once: bool
) -> tuple[list[Tensor], bool]:
    """Values and gradients of the first tasks, in full precision; whether random numbers are drawn.

    The gradients are of the values' sum with weights of either sign, so that no symmetry of a loss
    or of a normalisation hides an error.
    """
    some = tree_map(
        lambda each: each[:tasks].detach().clone().requires_grad_(each.requires_grad), arguments
    )
    learned = [each for each in (*strategy.parameters(), *tree_leaves(some)) if each.requires_grad]
    device = next(iter(tree_leaves(arguments))).device
    with ExitStack() as stack:
        stack.enter_context(untouched(strategy))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(allow_tf32=False))
        before = random_state(device)
        if at_once:
            results = torch.func.vmap(function, randomness="different")(*some)
        else:
            results = map_tasks(function, *some, at_once=False)
        drew = not torch.equal(before, random_state(device))
        values = tree_leaves(results)
        outputs = [each * _weights(each) for each in values if each.requires_grad]
        if not outputs:
            return values, drew
        total = torch.stack([each.sum() for each in outputs]).sum()
        if _has_gap(total):
            raise RuntimeError("An operation has no second derivatives.")
        found = torch.autograd.grad(total, learned, allow_unused=True, materialize_grads=True)
        return [*(each.detach() for each in values), *found], drew


def _has_gap(output: Tensor) -> bool:
    """Whether an operation in the graph of ``output`` cannot be differentiated any more.

    Torch raises an error only if such an operation is reached; otherwise it silently leaves out its
    share of a gradient.
    """
    ahead, seen = [output.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("::Error"):  # of once_differentiable
            return True
        seen.add(node)
        ahead.extend(each for each, _ in node.next_functions)
    return False


def _weights(like: Tensor) -> Tensor:
    return torch.arange(1, like.numel() + 1, device=like.device).to(like).cos().view_as(like)
