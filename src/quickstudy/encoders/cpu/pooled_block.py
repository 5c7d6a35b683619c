"""Convolution, normalisation, max-pooling and ReLU in one, a few images at a time.

    y = ReLU(pool(norm(x * W)))

Apart from the convolutions, such a block spends most of its time on a CPU moving its maps to memory
and back. Here a few images at a time stay in the processor's cache from the convolution to the end
of the pooling, and likewise on the way back. Pooling commutes with increasing functions: with
kernels turned so that γ ≥ 0, normalisation and ReLU act on what pooling leaves, a quarter, and on
the way back normalisation is one pass over the maps (Ioffe, Szegedy, "Batch Normalization", 2015):

    ∂L/∂z = s unpool(∂L/∂y [y > 0]) + a + b z,    z = x * W,   s = γ / √(σ² + ε)

where a and b make it orthogonal to 1 and to z. If an input has few channels, multiplying its
patches by the kernel as matrices is several times faster than a convolution. Second derivatives
recompute the plain operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.cpu.folding import patches
from quickstudy.encoders.normalization import (
    TaskBatchNorm,
    transformed,
    update_running_averages,
)

CACHED_BYTES = 3 * 2**19
"""Maps of this size per active core fit into the second-level caches of a common processor."""

HALVING: Any = ([2, 2], [2, 2], [0, 0], [1, 1], False)
CONVOLVING: Any = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
LAYOUT: Any = {"memory_format": torch.channels_last}
aten = torch.ops.aten


def images_at_once(x: Tensor, kernel: Tensor) -> int:
    """The number of images ``[B, C, H, W]`` whose maps fit into the caches together."""
    image = len(kernel) * x.shape[2] * x.shape[3] * x.itemsize
    return max(1, torch.get_num_threads() * CACHED_BYTES // image)


def pays(x: Tensor, kernel: Tensor) -> bool:
    """Whether processing a few images at a time pays: on a CPU, for many images."""
    plain = x.device.type != "cpu" or torch.compiler.is_compiling() or transformed()
    return not plain and len(x) > images_at_once(x, kernel)


def is_narrow(x: Tensor, kernel: Tensor) -> bool:
    """Whether patches times kernels are faster than a convolution, forward and backward.

    They are on a CPU if patches are small and the images need no gradient.
    """
    plain = x.device.type != "cpu" or torch.compiler.is_compiling() or x.requires_grad
    return not plain and kernel[0].numel() < len(kernel)


def convolved_and_pooled(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """ReLU(pool(x * W + b)) of images ``[B, C, H, W]``: ``[B, D, H/2, W/2]``.

    Args:
        x: channels-last.
        kernel: ``[D, C, 3, 3]``.
        bias: ``[D]``.
    """
    y: Tensor = _Pooled.apply(*_as_autocast(x, kernel, bias))  # type: ignore[no-untyped-call]
    return y


def convolved(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """The maps x * W + b ``[B, D, H, W]``.

    Args:
        x: ``[B, C, H, W]``, channels-last.
        kernel: ``[D, C, 3, 3]``.
        bias: ``[D]``.
    """
    if not is_narrow(x, kernel):
        return F.conv2d(x, kernel, bias, padding=1)
    x, kernel, bias = _as_autocast(x, kernel, bias)
    seen = patches(x, (3, 3), (1, 1)).transpose(1, 2)
    rows = torch.bmm(seen, _matrix(kernel, bias).expand(len(x), -1, -1))
    return rows.view(len(x), *x.shape[2:], len(kernel)).permute(0, 3, 1, 2)


def normalized_and_pooled(convolution: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """ReLU(pool(norm(x * W))), normalised by the batch's own statistics.

    Args:
        convolution: 3x3, padded by 1, without bias.
        norm: batch normalisation in training mode; its running averages are kept.
        x: images ``[B, C, H, W]``, channels-last.

    Returns:
        ``[B, D, H/2, W/2]``.
    """
    assert isinstance(norm, TaskBatchNorm | nn.BatchNorm2d)
    x, kernel = _as_autocast(x, convolution.weight)
    y: Tensor
    y, mean, var = _NormalizedAndPooled.apply(  # type: ignore[no-untyped-call]
        x, kernel, norm.weight, norm.bias, norm.eps
    )
    if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
        update_running_averages(norm, mean, var, x.shape[0] * x.shape[2] * x.shape[3])
    return y


def _as_autocast(*tensors: Tensor) -> list[Tensor]:
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    return [each.to(torch.get_autocast_dtype("cpu")) for each in tensors]


class _Pooled(torch.autograd.Function):
    """ReLU(pool(x * W + b))."""

    @staticmethod
    def plain(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        return F.max_pool2d(F.conv2d(x, kernel, bias, padding=1), 2).relu()

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        few = images_at_once(x, kernel)
        maxima, y = _Maxima(x, kernel, few), _empty(x, kernel, halved=True)
        narrow = is_narrow(x, kernel)
        seen = patches(x, (3, 3), (1, 1)) if narrow else None
        if seen is not None:
            matrix = _matrix(kernel, bias)
            room = _empty(x[:few], kernel)
        for number, images in enumerate(torch.split(x, few)):
            here = slice(number * few, number * few + len(images))
            if seen is None:
                maps = F.conv2d(images, kernel, bias, padding=1)
            else:
                maps, weights = room[: len(images)], matrix.expand(len(images), -1, -1)
                torch.bmm(seen[here].transpose(1, 2), weights, out=_rows(maps))
            maxima.pool(number, maps, y[here])
            y[here].relu_()
        ctx.save_for_backward(x, kernel, bias, y, maxima.kept, seen)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, kernel, bias, y, places, seen = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _again(_Pooled.plain, (x, kernel, bias), ctx.needs_input_grad, gradient)
        few = images_at_once(x, kernel)
        maxima = _Maxima(x, kernel, few, places)
        narrow = seen is not None and not ctx.needs_input_grad[0]
        room = _empty(x[:few] if narrow else x, kernel)
        wide = torch.promote_types(kernel.dtype, torch.float32)
        total = kernel.new_zeros(kernel[0].numel() + 1, len(kernel), dtype=wide)
        for number, g in enumerate(torch.split(gradient, few)):
            here = slice(number * few, number * few + len(g))
            g = aten.threshold_backward(g, y[here], 0)
            maps = maxima.unpool(number, g, room[: len(g)] if narrow else room[here])
            if narrow:
                total = total + torch.bmm(seen[here], _rows(maps)).sum(0)
        if narrow:
            total = total.t().to(kernel.dtype)
            return None, total[:, :-1].reshape(kernel.shape), total[:, -1]
        return aten.convolution_backward(
            room, x, kernel, [len(kernel)], *CONVOLVING, list(ctx.needs_input_grad)
        )


class _NormalizedAndPooled(torch.autograd.Function):
    """ReLU(pool(norm(x * W))), and the mean and biased variance of x * W, as constants."""

    @staticmethod
    def plain(x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        maps = F.conv2d(x, kernel, padding=1)
        normalized = F.batch_norm(maps, None, None, weight, bias, training=True, eps=eps)
        return F.max_pool2d(normalized, 2).relu()

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        few, signs = images_at_once(x, kernel), _signs(weight)
        turned = kernel * signs.view(-1, 1, 1, 1).to(kernel.dtype)
        maxima, pooled = _Maxima(x, kernel, few), _empty(x, kernel, halved=True)
        maps, statistics = [], []
        for number, images in enumerate(torch.split(x, few)):
            z = F.conv2d(images, turned, padding=1)
            maxima.pool(number, z, pooled[number * few : number * few + len(z)])
            maps.append(z)
            statistics.append(_moments(z, weight))
        mean, var = _together(statistics, [len(z) for z in maps])
        scale = weight.abs() * torch.rsqrt(var + eps)
        shift = bias - mean * scale
        y = torch.addcmul(_channels(shift), pooled, _channels(scale)).relu_().to(x.dtype)
        ctx.save_for_backward(
            x, kernel, turned, weight, bias, mean, var, pooled, y, maxima.kept, *maps
        )
        ctx.eps = eps
        mean = mean * signs
        ctx.mark_non_differentiable(mean, var)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        x, kernel, turned, weight, bias, mean, var, pooled, y, places, *maps = ctx.saved_tensors
        if torch.is_grad_enabled():
            given, wanted = (x, kernel, weight, bias), ctx.needs_input_grad[:4]
            plain = _NormalizedAndPooled.plain
            found = _again(lambda *each: plain(*each, ctx.eps), given, wanted, gradient)  # type: ignore[call-arg]
            return *found, None
        few, number = images_at_once(x, kernel), x.shape[0] * x.shape[2] * x.shape[3]
        gradient = aten.threshold_backward(gradient, y, 0)
        deviation = torch.rsqrt(var + ctx.eps)
        scale = weight.abs() * deviation
        centred = pooled - _channels(mean).to(pooled.dtype)
        for_bias = gradient.sum((0, 2, 3), dtype=mean.dtype)
        for_weight = (centred * gradient).sum((0, 2, 3), dtype=mean.dtype) * deviation
        b = -scale * deviation * for_weight / number
        a = -scale * for_bias / number - b * mean
        scale, a, b = (_channels(each).to(x.dtype) for each in (scale, a, b))
        maxima, back = _Maxima(x, kernel, few, places), _empty(x, kernel)
        room = _empty(x[:few], kernel)
        for piece, (z, g, into) in enumerate(
            zip(maps, torch.split(gradient, few), torch.split(back, few), strict=True)
        ):
            torch.addcmul(a, z, b, out=into)
            into.add_(maxima.unpool(piece, g * scale, room[: len(z)]))
        dx, dkernel, _ = aten.convolution_backward(
            back, x, turned, None, *CONVOLVING, [*ctx.needs_input_grad[:2], False]
        )
        signs = _signs(weight)
        if dkernel is not None:
            dkernel = dkernel * signs.view(-1, 1, 1, 1).to(dkernel.dtype)
        return dx, dkernel, for_weight * signs, for_bias, None


class _Maxima:
    """Pools maps piece by piece and remembers where each maximum was, for the way back.

    torch counts places within a map in 64 bits; 16 are enough here and a quarter of the way to
    memory, which costs more than the pooling.
    """

    def __init__(self, x: Tensor, kernel: Tensor, few: int, kept: Tensor | None = None) -> None:
        small = x.shape[2] * x.shape[3] <= torch.iinfo(torch.int16).max
        dtype = torch.int16 if small else torch.int32
        self.kept = _empty(x, kernel, dtype, halved=True) if kept is None else kept
        self.pieces: Sequence[Tensor] = torch.split(self.kept, few)
        self.places = _empty(x[:few], kernel, torch.int64, halved=True)

    def pool(self, number: int, maps: Tensor, pooled: Tensor) -> None:
        """The maxima of the piece ``number``, into ``pooled``."""
        places = self.places[: len(maps)]
        aten.max_pool2d_with_indices.out(maps, *HALVING, out=pooled, indices=places)
        self.pieces[number].copy_(places)

    def unpool(self, number: int, gradient: Tensor, maps: Tensor) -> Tensor:
        """Writes each gradient to the position of its maximum in ``maps``."""
        places = self.places[: len(maps)].copy_(self.pieces[number])
        aten.max_pool2d_with_indices_backward.grad_input(
            gradient, maps, *HALVING, places, grad_input=maps
        )
        return maps


def _empty(
    x: Tensor, kernel: Tensor, dtype: torch.dtype | None = None, *, halved: bool = False
) -> Tensor:
    """Room for the maps of images, channels-last."""
    height, width = (side // 2 if halved else side for side in x.shape[2:])
    return torch.empty(len(x), len(kernel), height, width, dtype=dtype or x.dtype, **LAYOUT)


def _channels(vector: Tensor) -> Tensor:
    """A vector ``[D]`` for each place of maps ``[B, D, H, W]``."""
    return vector.view(1, -1, 1, 1)


def _matrix(kernel: Tensor, bias: Tensor) -> Tensor:
    """The kernel and bias as one matrix ``[C k k + 1, D]`` for patches with a one appended."""
    return torch.cat([kernel.flatten(1), bias[:, None]], 1).t()


def _rows(maps: Tensor) -> Tensor:
    """Maps ``[B, D, H, W]`` as matrices ``[B, H W, D]``."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _signs(weight: Tensor) -> Tensor:
    """Signs ±1, ``[D]``, that flip kernels so that no γ is negative."""
    return torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)


def _moments(maps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance ``[D]``, in the precision of ``like``."""
    # Given running averages of a higher precision, torch answers in that.
    unused = (None, None) if maps.dtype == like.dtype else (like.new_zeros(len(like)),) * 2
    found: tuple[Tensor, Tensor] = aten.batch_norm_update_stats(maps, *unused, 0.0)
    return found


def _together(
    statistics: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Pools the means and variances of parts (Chan, Golub, LeVeque 1983)."""
    means, variances = (torch.stack(each) for each in zip(*statistics, strict=True))
    share = means.new_tensor(sizes)[:, None] / sum(sizes)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)


def _again(
    function: Callable[..., Tensor],
    given: Sequence[Tensor],
    wanted: Sequence[bool],
    gradient: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradient through the plain operations, which can itself be differentiated."""
    inputs = [each for each, needed in zip(given, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(function(*given), inputs, gradient, create_graph=True))
    return tuple(next(found) if needed else None for needed in wanted)
