"""Batch normalisation folded into the convolution before it.

    norm(x * W) = x * sW + t,    s = γ / √(σ² + ε),  t = β − μ s

holds wherever μ and σ² are known before convolving: running averages, statistics that belong to θ,
and, for a first layer, the batch's own. An output of a convolution is linear in its patch p of the
input, so that over the batch μ = W E[p] and σ² = W Cov[p] Wᵀ. If a patch has few numbers (9 for a
3x3 kernel on one channel), these moments cost less than one pass over the maps; normalising them
takes five.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.normalization import (
    TaskBatchNorm,
    is_plain,
    update_running_averages,
)

IMAGES_AT_ONCE = 32
"""Patches of this many images fit into a processor's cache."""


def folded(convolution: nn.Conv2d, norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """The kernel and bias that convolve ``x`` and normalise in one.

    Args:
        convolution: a convolution without bias.
        norm: the layer that follows it.
        x: the input of the convolution, ``[B, C, H, W]``.

    Returns:
        The kernel ``[D, C, k, k]`` and the bias ``[D]``, or None if the statistics are not cheap to
        compute or ``norm`` is not a batch normalisation.
    """
    if not isinstance(norm, TaskBatchNorm | nn.BatchNorm2d) or convolution.bias is not None:
        return None
    if norm.weight is None or norm.bias is None or not (is_plain(convolution) and is_plain(norm)):
        return None
    with torch.autocast(x.device.type, enabled=False):
        statistics = _statistics(convolution, norm, x)
        if statistics is None:
            return None
        mean, var = statistics
        scale = torch.rsqrt(var + norm.eps) * norm.weight
        return convolution.weight * scale.view(-1, 1, 1, 1), norm.bias - mean * scale


def _statistics(
    convolution: nn.Conv2d, norm: TaskBatchNorm | nn.BatchNorm2d, x: Tensor
) -> tuple[Tensor, Tensor] | None:
    """The mean and the biased variance ``[D]`` that ``norm`` divides by."""
    if isinstance(norm, TaskBatchNorm):
        if not norm.training:
            return norm.given()
    elif not norm.training and norm.running_mean is not None and norm.running_var is not None:
        return norm.running_mean, norm.running_var
    kernel = convolution.weight.flatten(1)
    if kernel.shape[1] > kernel.shape[0] or x.requires_grad or x.device.type == "mps":
        return None  # Apple's GPUs have no float64
    if convolution.dilation != (1, 1):
        return None
    mean, covariance, number = patch_moments(convolution, x)
    wide = kernel.double()
    mean = (wide @ mean).to(kernel.dtype)
    var = ((wide @ covariance) * wide).sum(1).to(kernel.dtype)
    if isinstance(norm, TaskBatchNorm):
        norm.statistics.record(mean, var)
    elif norm.training and norm.track_running_stats:
        update_running_averages(norm, mean.detach(), var.detach(), number)
    return mean, var


def patch_moments(convolution: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """The mean ``[P]`` and covariance ``[P, P]`` of the patches that are convolved, their number.

    P is C k k, in the order of a kernel ``[C, k, k]``. In float64: neighbouring pixels are so much
    alike that in float32 a kernel of differences would find few digits left.
    """
    padding = convolution.padding
    assert not isinstance(padding, str)
    products, places = [], 0
    for few in torch.split(x, IMAGES_AT_ONCE):
        seen = patches(few.double(), convolution.kernel_size, padding, convolution.stride)
        products.append(torch.bmm(seen, seen.transpose(1, 2)).sum(0))
        places = seen.shape[2]
    number = x.shape[0] * places
    moments = torch.stack(products).sum(0) / number  # the last of row and column: with one
    mean = moments[-1, :-1]
    return mean, moments[:-1, :-1] - mean[:, None] * mean, number


def patches(
    x: Tensor, size: Sequence[int], padding: Sequence[int], stride: Sequence[int] = (1, 1)
) -> Tensor:
    """The input patch at each output position, with a one appended: ``[B, C k k + 1, places]``.

    Args:
        x: images ``[B, C, H, W]``.
        size: height and width of the kernel.
        padding: rows and columns of zeros on each side.
        stride: distance between positions.
    """
    (height, width), (rows, columns), (down, right) = padding, size, stride
    windows = F.pad(x, (width, width, height, height)).unfold(2, rows, down)
    windows = windows.unfold(3, columns, right).permute(0, 1, 4, 5, 2, 3)
    images, channels, _, _, high, wide = windows.shape
    found = x.new_empty(images, channels * rows * columns + 1, high * wide)
    # As views and one copy, a third of the time that F.unfold takes.
    found[:, :-1].view(images, channels, rows, columns, high, wide).copy_(windows)
    found[:, -1] = 1
    return found
