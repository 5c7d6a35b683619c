"""Normalisation layers, and the policy on whose statistics they use.

*Ordinary batch normalisation* (``"batch"``) uses the statistics of the batch in training and
running averages afterwards, so a prediction depends on its own input alone: inductive.

*Strategies whose encoder adapts inside a task* have no running averages that fit the adapted
weights. :class:`TaskBatchNorm` makes the choice explicit: in training mode it normalises by the
batch at hand (transductive when that batch is the query), in evaluation mode by the statistics in
its buffers, which the strategy fills with those of the task's support (inductive; "conventional
batch normalisation" in Bronskill et al., "TaskNorm", ICML 2020, with the support as the batch).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Normalization = Literal["batch", "group", "none"]

GROUPS = 8


def normalization_layer(kind: Normalization, channels: int) -> nn.Module:
    """A normalisation of maps ``[B, channels, H, W]``."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"The normalisation {kind!r} is unknown; choose batch, group or none.")


class LayerNorm(nn.LayerNorm):
    """Torch's own, but written out under ``torch.func``.

    There, torch's gives wrong second derivatives without a word where several weights are mapped
    over at once (``vmap``), as inner loops do.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not transformed():
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):  # in full precision, as torch's is
            x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


class TaskBatchNorm(nn.Module):
    """Batch normalisation whose statistics can be part of θ.

    In training mode it uses the batch's own mean and variance and keeps nothing. In evaluation mode
    it uses its buffers ``mean`` and ``var``, and gradients flow into them when they are given by
    ``torch.func.functional_call``, which ``nn.BatchNorm2d`` does not allow.

    Args:
        features: the number of channels C of inputs ``[B, C, ...]``.
        eps: added to the variance.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.recorded: dict[str, Tensor] | None = None
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features), persistent=False)
        self.register_buffer("var", torch.ones(features), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        fused = not torch.compiler.is_compiling() and not transformed()
        # Under vmap, torch's fused batch normalisation loses terms of the second derivative.
        if self.training and self.recorded is None and fused:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        axes = [0, *range(2, x.ndim)]
        broadcast = (1, -1) + (1,) * (x.ndim - 2)
        given, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        if self.training:
            mean = x.mean(axes)
            var = (x - mean.view(broadcast)).square().mean(axes)
            self.record(mean, var)
        else:
            mean, var = self.mean, self.var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return (x * scale.view(broadcast) + shift.view(broadcast)).to(given)

    def record(self, mean: Tensor, var: Tensor) -> None:
        """Notes the statistics ``[C]`` of a batch, if they are being recorded."""
        if self.recorded is not None:
            self.recorded |= {"mean": mean, "var": var}


def transformed() -> bool:
    """Whether this runs inside ``torch.func.grad``, ``vmap`` or another of its transformations."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def use_task_batch_norm(module: nn.Module) -> nn.Module:
    """Replaces each batch normalisation inside ``module`` by :class:`TaskBatchNorm`, in place.

    Returns:
        The module; its replacement where it is a batch normalisation itself.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        replacement = TaskBatchNorm(module.num_features, module.eps)
        if module.affine:
            replacement.weight, replacement.bias = module.weight, module.bias
        else:
            replacement.requires_grad_(False)
        return replacement
    for name, child in module.named_children():
        setattr(module, name, use_task_batch_norm(child))
    return module


def task_batch_norms(module: nn.Module) -> dict[str, TaskBatchNorm]:
    """The :class:`TaskBatchNorm` layers of ``module`` by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, TaskBatchNorm)}


def by_its_batch(norm: nn.Module) -> bool:
    """Whether a batch normalisation divides by the statistics of the batch, and need not tell."""
    if isinstance(norm, TaskBatchNorm):
        return norm.training and norm.recorded is None
    return isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.training


@torch.no_grad()
def update_running_averages(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """As ``nn.BatchNorm2d`` does in training.

    Args:
        norm: which keeps running averages.
        mean: of the batch, ``[C]``.
        var: of the batch, biased, ``[C]``.
        count: how many numbers of each channel they are of.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
    norm.running_var.lerp_((var * count / (count - 1)).to(norm.running_var), momentum)


@contextmanager
def recorded_statistics(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collects each layer's batch mean and variance, under its buffers' names, once it is closed.

    The variance is the biased one, which batch normalisation in training mode divides by.
    """
    statistics: dict[str, Tensor] = {}
    layers = task_batch_norms(module)
    for layer in layers.values():
        layer.recorded = {}
    try:
        yield statistics
        for name, layer in layers.items():
            for each, value in (layer.recorded or {}).items():
                statistics[f"{name}.{each}"] = value
    finally:
        for layer in layers.values():
            layer.recorded = None
