"""T-net (Lee, Choi, 2018)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, SecondOrderLoop
from quickstudy.strategies.functional import in_full_precision
from quickstudy.strategies.strategy import Theta

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class TNet(GradientStrategy):
    """MAML in which a linear map, learned only by the outer loop, follows every layer.

        y = T (W x + b),   θ = all W, b:   θ_{s+1} = θ_s − α ∇_θ L(support; θ_s, T)

    T mixes the outputs of a linear layer or the channels of a convolution (a 1x1 convolution). It
    gives the layer its own metric: a step on W moves T W by −α T Tᵀ ∇, where ∇ is the gradient with
    respect to T W. T starts as the identity, as in MAML, and is learned with the start of W.

    Lee, Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and Subspace", ICML 2018,
    section 3 (T-net; not the masks of MT-net). T-nets are the linear case of the warp layers of
    Flennerhag and others, "Meta-Learning with Warped Gradient Descent", ICLR 2020. Here T is
    multiplied into W before the layer is computed, so any encoder works.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. Its
            linear and convolution layers get a T; its other parameters adapt as in MAML.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Lee, Choi, 2018"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        **inner_loop: Unpack[SecondOrderLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)
        layers = {
            name: layer
            for name, layer in self.network().named_modules()
            if isinstance(layer, LAYERS) and layer.weight.requires_grad
        }
        self.transformations = nn.ParameterDict(
            {
                name.replace(".", "_"): nn.Parameter(torch.eye(layer.weight.shape[0]))
                for name, layer in layers.items()
            }
        )
        self._transformed = {
            f"{name}.{kind}": name.replace(".", "_")
            for name in layers
            for kind in ("weight", "bias")
        }

    def outputs(self, theta: Theta, inputs: Tensor, *, batch_statistics: bool) -> Tensor:
        composed = {
            name: transformed(self.transformations[self._transformed[name]], each)
            if name in self._transformed
            else each
            for name, each in theta.items()
        }
        return super().outputs(composed, inputs, batch_statistics=batch_statistics)


@in_full_precision
def transformed(transformation: Tensor, weight: Tensor) -> Tensor:
    """T W, for W of any further axes, or T b."""
    found: Tensor = torch.tensordot(transformation, weight, dims=1)
    return found
