"""Normalisation layers, and the policy on whose statistics they use.

*Ordinary batch normalisation* (``"batch"``) uses the statistics of the batch in training and
running averages afterwards, so a prediction depends on its own input alone: inductive.

*Strategies whose encoder adapts inside a task* have no running averages that fit the adapted
weights. :class:`TaskBatchNorm` makes the choice explicit: in training mode it normalises by the
batch at hand (transductive when that batch is the query), in evaluation mode by the statistics in
its buffers, which the strategy fills with those of the task's support (inductive; "conventional
batch normalisation" in Bronskill et al., "TaskNorm", ICML 2020, with the support as the batch).
:mod:`quickstudy.encoders.task_normalization` puts it into a copy of an encoder's structure, so that
the encoder itself is not changed.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.errors import InputError

Normalization = Literal["batch", "group", "none"]

GROUPS = 8

OTHER_USES = (
    "A normalisation layer was used a different number of times on a task's support and on its "
    "queries, so it is unclear which statistics to use. The encoder must use the layer equally "
    "often for every batch size."
)


def normalization_layer(kind: Normalization, channels: int) -> nn.Module:
    """A normalisation of maps ``[B, channels, H, W]``."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"The normalisation {kind!r} is unknown; choose batch, group or none.")


class LayerNorm(nn.LayerNorm):
    """Torch's layer, but computed from basic operations under ``torch.func``.

    Torch's own silently gives wrong second derivatives when several weights are mapped over at
    once (``vmap``), as inner loops do.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not transformed():
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):  # in full precision, as torch's is
            x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
            centred = x - x.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


class TaskStatistics:
    """The statistics of a task that one normalisation layer records or is given.

    A layer that a pass uses several times (with shared weights, or on parts of its batch) has
    statistics for each use, in the order of the uses.

    Attributes:
        recorded: the mean and variance ``[C]`` of each use, while recording.
        uses: how often given statistics were used in the current pass.
        expected: the number of uses with given statistics, if several.
        by_batch: whether the current pass uses the batch's own statistics.
    """

    def __init__(self) -> None:
        self.recorded: list[tuple[Tensor, Tensor]] | None = None
        self.uses = self.expected = 0
        self.by_batch = True

    def record(self, mean: Tensor, var: Tensor) -> None:
        """Records the statistics ``[C]`` of a batch, while recording is on."""
        if self.recorded is not None:
            self.recorded.append((mean, var))

    def found(self) -> dict[str, Tensor]:
        """The recorded ``mean`` and ``var``: ``[C]``, or ``[uses, C]`` after several uses."""
        names = ("mean", "var")
        if not self.recorded:
            return {}
        if len(self.recorded) == 1:
            return dict(zip(names, self.recorded[0], strict=True))
        each = zip(*self.recorded, strict=True)
        return {name: torch.stack(values) for name, values in zip(names, each, strict=True)}

    def next(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """The given statistics ``[C]`` for this use.

        Statistics of a single use apply to any number of uses, so that queries can come in parts.

        Raises:
            ValueError: when the layer is used more often than statistics were recorded.
        """
        if mean.ndim == 1:
            return mean, var
        self.expected = len(mean)
        if self.uses == self.expected:
            raise InputError(OTHER_USES)
        self.uses += 1
        return mean[self.uses - 1], var[self.uses - 1]


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
        self.num_features = features
        self.eps = eps
        self.statistics = TaskStatistics()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features), persistent=False)
        self.register_buffer("var", torch.ones(features), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        fused = not torch.compiler.is_compiling() and not transformed()
        # Under vmap, torch's fused batch normalisation loses terms of the second derivative.
        if self.training and self.statistics.recorded is None and fused:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        given = None if self.training else self.given()
        return normalized(x, self.weight, self.bias, self.eps, self.statistics, given)

    def given(self) -> tuple[Tensor, Tensor]:
        """The mean and variance ``[C]`` used in evaluation mode."""
        return self.statistics.next(self.mean, self.var)


def normalized(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    statistics: TaskStatistics,
    given: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Batch normalisation in operations that can be differentiated twice under ``torch.func``.

    Args:
        x: ``[B, C, ...]``.
        weight: ``[C]``, or None for 1.
        bias: ``[C]``, or None for 0.
        eps: added to the variance.
        statistics: records the batch's own statistics, if these are used.
        given: the mean and variance ``[C]`` to use; None for the batch's own.
    """
    axes = [0, *range(2, x.ndim)]
    broadcast = (1, -1) + (1,) * (x.ndim - 2)
    dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
    if given is None:
        mean = x.mean(axes)
        var = (x - mean.view(broadcast)).square().mean(axes)
        statistics.record(mean, var)
    else:
        mean, var = given
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else weight * scale
    shift = -mean * scale if bias is None else bias - mean * scale
    return (x * scale.view(broadcast) + shift.view(broadcast)).to(dtype)


def transformed() -> bool:
    """Whether this runs inside ``torch.func.grad``, ``vmap`` or another of its transformations."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes exactly what its type does, so that it can be merged.

    A replaced layer, or one with hooks, can do more and is called unchanged.
    """
    kind = type(layer)
    if kind not in (nn.Conv2d, nn.BatchNorm2d, TaskBatchNorm):
        return False
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return not hooks and "forward" not in layer.__dict__


def by_its_batch(norm: nn.Module) -> bool:
    """Whether a batch normalisation divides by the statistics of the batch, and need not tell."""
    if not is_plain(norm) or norm.weight is None or norm.bias is None:
        return False
    if isinstance(norm, TaskBatchNorm):
        return norm.training and norm.statistics.recorded is None
    return isinstance(norm, nn.BatchNorm2d) and norm.training


@torch.no_grad()
def update_running_averages(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """As ``nn.BatchNorm2d`` does in training.

    Args:
        norm: which keeps running averages.
        mean: mean of the batch, ``[C]``.
        var: biased variance of the batch, ``[C]``.
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
