"""An encoder's structure with :class:`TaskBatchNorm` in it, beside the encoder itself.

A strategy that adapts an encoder inside a task has to replace the encoder's batch normalisation.
The encoder can be in use elsewhere, so it is left unchanged: the strategy works with a copy of its
structure, whose parameters and buffers are the encoder's own tensors.
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
from quickstudy.errors import InputError

Module = TypeVar("Module", bound=nn.Module)

STATE = "task_statistics"
"""The attribute in which a layer with a custom forward pass keeps its :class:`TaskStatistics`."""


def with_task_batch_norm(module: nn.Module) -> nn.Module:
    """A copy of the structure of ``module`` whose batch normalisation uses a task's statistics.

    Parameters and buffers are the same tensors in both; ``module`` itself is not changed. A layer
    with a custom forward pass or with hooks keeps them, and gets the task's statistics where it
    calls ``F.batch_norm``. A layer that stays in evaluation mode when ``module`` is put into
    training mode keeps its running averages.

    Returns:
        The copy, or ``module`` itself if it has no batch normalisation to replace.

    Raises:
        ValueError: when lazy layers have no sizes yet, or the structure cannot be copied.
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
            memo.pop(id(buffer), None)  # running averages belong to the encoder alone
        if isinstance(layer, TaskBatchNorm) or _is_plain(layer):
            memo[id(layer)] = _replacement(layer)
        else:
            kept.append(layer)
    own = _copied(module, memo)
    for layer in kept:
        _give_task_statistics(memo[id(layer)])
    return own


def check_materialized(module: nn.Module) -> None:
    """Refuses a module with lazy layers, which have no sizes before their first batch."""
    for name, layer in module.named_modules():
        tensors = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            raise InputError(
                f"The layer {name or 'itself'} of {type(module).__name__} is a "
                f"{type(layer).__name__}, which takes its size from its first batch, but a "
                "strategy needs to know all parameters beforehand. Pass one batch through the "
                "encoder first."
            )


def task_batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``module`` that use a task's statistics, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, TaskBatchNorm) or STATE in layer.__dict__
    }


def check_keeps_statistics(encoder: nn.Module, called: str) -> None:
    """Refuses (ValueError) an encoder that a strategy adapts: used alone, its vectors mean nothing.

    Args:
        encoder: one that has to be the same for every task.
        called: the subject of the sentence.
    """
    if task_batch_norms(encoder):
        raise InputError(
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
    """Whether a layer normalises by the current batch, rather than by its buffers, in this pass.

    Args:
        layer: a layer that :func:`task_batch_norms` found.
        batch: the current batch.
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
            raise InputError(OTHER_USES)


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
    """While this is open, a pass does not change the statistics that are being recorded."""
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
        convert: the conversion that was applied to each tensor of ``own``.
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
    """A copy of a module; ``memo`` maps the ids of objects to their replacements.

    Tensors that a module keeps from its latest pass, as in weight normalisation, are detached in
    the copy, because torch cannot copy a gradient's history.
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
        raise InputError(
            f"The batch normalisation of {type(module).__name__} cannot use the statistics of each "
            "task: that needs a copy of the encoder, which holds something that Python cannot "
            "copy, such as a lock or an open file. Create that only when it is needed, or use an "
            "encoder without batch normalisation."
        ) from error


def _frozen(own: nn.Module) -> set[str]:
    """The names of batch normalisation layers that stay in evaluation mode during training."""
    own.train()
    return {
        name
        for name, layer in own.named_modules()
        if isinstance(layer, _BatchNorm) and not layer.training
    }


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer does nothing but torch's own batch normalisation."""
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
    """Lets a layer with a custom forward pass use the statistics of a task."""
    if hasattr(layer, "mean") or hasattr(layer, "var"):
        raise InputError(
            f"{type(layer).__name__} has an attribute `mean` or `var`, a name that a strategy "
            "needs for the statistics of a task; rename the attribute."
        )
    assert isinstance(layer, _BatchNorm)
    like = next(layer.parameters(), torch.zeros(()))
    for name, value in (("mean", torch.zeros), ("var", torch.ones)):
        layer.register_buffer(name, value(layer.num_features).to(like), persistent=False)
    # It keeps no running averages, but its forward pass can read the earlier ones.
    layer.track_running_stats = False
    layer.num_batches_tracked = None
    layer._non_persistent_buffers_set |= {"running_mean", "running_var"}
    layer.__dict__[STATE] = TaskStatistics()
    layer.__dict__["forward"] = functools.partial(_forward, layer, layer.__dict__.get("forward"))


def _forward(layer: nn.Module, own: Callable[..., Any] | None, *args: Any, **named: Any) -> Any:
    """The forward pass of a layer in which ``F.batch_norm`` uses a task's statistics."""
    by_task = _ByTask(layer)
    with by_task:
        found = own(*args, **named) if own else type(layer).forward(layer, *args, **named)
    if not by_task.used:
        raise InputError(
            f"{type(layer).__name__} normalises without F.batch_norm, so it cannot use the "
            "statistics of a task. Replace it with one of torch's BatchNorm layers, or call "
            "F.batch_norm in its forward pass."
        )
    return found


class _ByTask(TorchFunctionMode):
    """While this is open, ``F.batch_norm`` uses the statistics of a task, in this thread."""

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
