"""An encoder's structure with :class:`TaskBatchNorm` in it, beside the encoder itself.

A strategy that adapts an encoder inside a task needs other batch normalisation than the encoder
brings. The encoder may be in use elsewhere, so it is left as it is: the strategy works with a copy
of its structure, whose parameters and buffers are the encoder's own tensors.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from quickstudy.encoders.normalization import (
    OTHER_USES,
    TaskBatchNorm,
    TaskStatistics,
    normalized,
)

Module = TypeVar("Module", bound=nn.Module)

STATE = "task_statistics"
"""Where a layer with a forward pass of its own keeps its :class:`TaskStatistics`."""


def with_task_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of the structure of ``module`` whose batch normalisation belongs to a task.

    Parameters and buffers are the same tensors in both; ``module`` itself is not changed. A layer
    whose forward pass is not torch's own, or that has hooks, keeps both and is given the task's
    statistics where it calls ``F.batch_norm``. A layer that stays in evaluation mode when
    ``module`` is put into training mode keeps its running averages.

    Returns:
        The copy; ``module`` where it has no batch normalisation to replace.

    Raises:
        ValueError: when layers do not know their sizes yet, or the structure cannot be copied.
    """
    check_materialized(module)
    kinds = (_BatchNorm, TaskBatchNorm)
    if not any(isinstance(layer, kinds) for layer in module.modules()):
        return module
    shared: dict[int, Any] = {id(each): each for each in (*module.parameters(), *module.buffers())}
    frozen, memo = _frozen(_copied(module, dict(shared))), dict(shared)
    kept: list[nn.Module] = []
    for name, layer in module.named_modules():
        if not isinstance(layer, kinds) or name in frozen:
            continue
        for buffer in layer.buffers(recurse=False):
            memo.pop(id(buffer), None)  # running averages are the encoder's alone
        if isinstance(layer, TaskBatchNorm) or _is_plain(layer):
            memo[id(layer)] = _replacement(layer)
        else:
            kept.append(layer)
    own = _copied(module, memo)
    for layer in kept:
        _give_task_statistics(memo[id(layer)])
    return own


def check_materialized(module: nn.Module) -> None:
    """Refuses a module some of whose layers do not know their sizes before a first batch."""
    for name, layer in module.named_modules():
        tensors = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            raise ValueError(
                f"The layer {name or 'itself'} of {type(module).__name__} is a "
                f"{type(layer).__name__}, which learns its size from a first batch, but a strategy "
                "needs to know all parameters before. Pass one batch through the encoder first."
            )


def task_batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``module`` whose statistics belong to a task, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, TaskBatchNorm) or STATE in layer.__dict__
    }


def check_keeps_statistics(encoder: nn.Module, called: str) -> None:
    """Refuses (ValueError) an encoder that a strategy adapts: alone, its vectors mean nothing.

    Args:
        encoder: that is to be the same for every task.
        called: the subject of the sentence.
    """
    if task_batch_norms(encoder):
        raise ValueError(
            f"{called} was meta-trained to be adapted inside each task, and normalises by that "
            "task's statistics. Use the whole run, as strategy=; or choose an encoder that stays "
            "the same for every task, such as the network that the strategy was made from."
        )


def statistics_of(layer: nn.Module) -> TaskStatistics:
    """The statistics of a layer that :func:`task_batch_norms` found."""
    found: TaskStatistics = (
        layer.statistics if isinstance(layer, TaskBatchNorm) else layer.__dict__[STATE]
    )
    return found


def use_batch_statistics(layer: nn.Module, batch: bool) -> None:
    """Whether a layer normalises by the batch at hand in the pass that begins, or by its buffers.

    Args:
        layer: which :func:`task_batch_norms` found.
        batch: the batch at hand.
    """
    if isinstance(layer, TaskBatchNorm):
        layer.training = batch
    statistics = statistics_of(layer)
    statistics.by_batch = batch
    statistics.uses = statistics.expected = 0


def check_uses(layers: Iterable[nn.Module]) -> None:
    """Refuses a pass in which a layer was used less often than statistics were given for it."""
    for layer in layers:
        statistics = statistics_of(layer)
        if statistics.uses < statistics.expected:
            raise ValueError(OTHER_USES)


@contextmanager
def recorded_statistics(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects each layer's batch mean and variance, under its buffers' names, once it is closed.

    The variance is the biased one, which batch normalisation in training mode divides by.
    """
    statistics: dict[str, Tensor] = {}
    layers = {name: statistics_of(layer) for name, layer in task_batch_norms(module).items()}
    for layer in layers.values():
        layer.recorded = []
    try:
        yield statistics
        for name, layer in layers.items():
            for each, value in layer.found().items():
                statistics[f"{name}.{each}"] = value
    finally:
        for layer in layers.values():
            layer.recorded = None


@contextmanager
def unrecorded(module: nn.Module) -> Iterator[None]:
    """A pass while this is open leaves the statistics that are being recorded as they were."""
    layers = [statistics_of(layer) for layer in task_batch_norms(module).values()]
    saved = [(layer.recorded, layer.uses, layer.expected) for layer in layers]
    for layer in layers:
        layer.recorded = None
    try:
        yield
    finally:
        for layer, (recorded, uses, expected) in zip(layers, saved, strict=True):
            layer.recorded, layer.uses, layer.expected = recorded, uses, expected


def follow(given: nn.Module, own: nn.Module, convert: Callable[[Tensor], Tensor]) -> None:
    """Moves or casts ``given`` after ``own``, the copy of its structure, was moved or cast.

    Args:
        given: what :func:`with_task_batch_norm` was called with.
        own: what it returned, converted already.
        convert: what was done to each tensor of ``own``.
    """
    if given is own:
        return
    converted = dict(own.named_modules())
    for name, module in given.named_modules():
        same = converted.get(name)
        for key, parameter in module._parameters.items():
            ours = None if same is None else same._parameters.get(key)
            if ours is not None:
                module._parameters[key] = ours
            elif parameter is not None:
                parameter.data = convert(parameter.data)
        for key, buffer in module._buffers.items():
            ours = None if same is None else same._buffers.get(key)
            if buffer is not None:
                module._buffers[key] = convert(buffer) if ours is None else ours


def copied(module: Module, memo: dict[int, Any]) -> Module:
    """A copy of a module, in which ``memo`` says what takes the place of which object, by its id.

    Tensors that a module keeps from its latest pass, as weight normalisation does, do not keep
    their gradient's history, which torch cannot copy.
    """
    for layer in module.modules():
        for value in layer.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(module, memo)


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copied(module, memo)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"The batch normalisation of {type(module).__name__} cannot be made to belong to a "
            "task, because the encoder holds something that Python cannot copy, such as a lock or "
            "an open file. Make that when it is needed, or use an encoder without batch "
            "normalisation."
        ) from error


def _frozen(own: nn.Module) -> set[str]:
    """The names of batch normalisation that stays in evaluation mode when all is to train."""
    own.train()
    return {
        name
        for name, layer in own.named_modules()
        if isinstance(layer, _BatchNorm) and not layer.training
    }


def _is_plain(layer: nn.Module) -> bool:
    """Whether nothing but torch's own batch normalisation happens in a layer."""
    torchs = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks)
    changed = "forward" in layer.__dict__ or layer._modules or any(hooks)
    return type(layer).forward in torchs and not changed


def _replacement(layer: nn.Module) -> TaskBatchNorm:
    assert isinstance(layer, _BatchNorm | TaskBatchNorm)
    replacement = TaskBatchNorm(layer.num_features, layer.eps)
    if layer.weight is None:
        return replacement.requires_grad_(False)
    replacement.weight, replacement.bias = layer.weight, layer.bias
    replacement.mean, replacement.var = (
        each.to(layer.weight) for each in (replacement.mean, replacement.var)
    )
    return replacement


def _give_task_statistics(layer: nn.Module) -> None:
    """Makes the statistics of a layer with a forward pass of its own those of a task."""
    if hasattr(layer, "mean") or hasattr(layer, "var"):
        raise ValueError(
            f"{type(layer).__name__} has an attribute `mean` or `var`, which is the name of the "
            "statistics that a strategy gives to batch normalisation: rename it."
        )
    assert isinstance(layer, _BatchNorm)
    like = next(layer.parameters(), torch.zeros(()))
    for name, value in (("mean", torch.zeros), ("var", torch.ones)):
        layer.register_buffer(name, value(layer.num_features).to(like), persistent=False)
    # It keeps no running averages, though its forward pass may read what they were.
    layer.track_running_stats = False
    layer.num_batches_tracked = None
    layer._non_persistent_buffers_set |= {"running_mean", "running_var"}
    layer.__dict__[STATE] = TaskStatistics()
    layer.__dict__["forward"] = functools.partial(_forward, layer, layer.__dict__.get("forward"))


def _forward(layer: nn.Module, own: Callable[..., Any] | None, *args: Any, **named: Any) -> Any:
    """The forward pass of a layer, in which ``F.batch_norm`` is that of a task."""
    by_task = _ByTask(layer)
    with by_task:
        found = own(*args, **named) if own else type(layer).forward(layer, *args, **named)
    if not by_task.used:
        raise ValueError(
            f"{type(layer).__name__} normalises in a way of its own, without F.batch_norm, so it "
            "cannot be given the statistics of a task. Put a BatchNorm layer of torch in its "
            "place, or call F.batch_norm in its forward pass."
        )
    return found


class _ByTask(TorchFunctionMode):
    """Gives ``F.batch_norm`` the statistics of a task while it is open, in this thread."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.used = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        self.used = True
        return self._normalized(*args, **(kwargs or {}))

    def _normalized(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        statistics = statistics_of(self.layer)
        mean, var = self.layer.mean, self.layer.var
        assert isinstance(mean, Tensor)
        assert isinstance(var, Tensor)
        given = None if statistics.by_batch else statistics.next(mean, var)
        return normalized(input, weight, bias, eps, statistics, given)
