"""SimpleShot (Wang, Chao, Weinberger, van der Maaten, 2019)."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.pretrained import CentredStrategy
from quickstudy.strategies.functional import class_means, in_full_precision, similarity
from quickstudy.strategies.strategy import Theta

Transformation = Literal["UN", "L2N", "CL2N"]


class SimpleShot(CentredStrategy):
    """Nearest centroid on the centred, unit-length features of an ordinary classifier.

        UN: z = f(x),   L2N: z = f(x) / ‖f(x)‖,   CL2N: z = (f(x) − m) / ‖f(x) − m‖

        c_k = mean of z_i over the support of class k,   ŷ = the k of the least ‖z − c_k‖

    m is the mean feature of the training classes. Here it is a running mean over the training
    batches: of augmented images, as batch normalisation left them, and of the last hundred or so
    batches, as the encoder changes. The paper takes the mean after training. It gives no
    probabilities; here they are p(y = k | x) ∝ exp(−s ‖z − c_k‖²), whose likeliest class is ŷ.

    Wang, Chao, Weinberger, van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor Classification
    for Few-Shot Learning", arXiv 1911.04623, 2019, section 2.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        transformation: "UN", "L2N" or "CL2N".
        scale: s, of the probabilities alone.
    """

    paper = "Wang, Chao, Weinberger, van der Maaten, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        transformation: Transformation = "CL2N",
        scale: float = 10.0,
    ) -> None:
        feature_size(encoder)  # refuses an encoder that does not state it
        super().__init__(encoder, classes)
        if transformation not in get_args(Transformation):
            raise InputError(
                f"The transformation {transformation!r} is unknown; choose UN, L2N or CL2N."
            )
        if not scale > 0:
            raise InputError(
                f"The scale is {scale}, and the nearest class would not be the likeliest; give "
                "more than 0."
            )
        self.transformation = transformation
        self.scale = scale

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        z = transformed(support.inputs, self.running_mean, self.transformation)
        return {"centroids": class_means(z, support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        z = transformed(features, self.running_mean, self.transformation)
        return self.scale * similarity(z, theta["centroids"], "euclidean")


@in_full_precision
def transformed(features: Tensor, mean: Tensor, transformation: Transformation) -> Tensor:
    """The z of features ``[..., D]`` and the mean ``[D]``."""
    if transformation == "UN":
        return features
    return F.normalize(features - mean if transformation == "CL2N" else features, dim=-1)
