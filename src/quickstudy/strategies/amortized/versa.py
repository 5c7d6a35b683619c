"""VERSA (Gordon, Bronskill, Bauer, Nowozin, Turner, 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.perceptron import perceptron
from quickstudy.strategies.bases.set_networks import ranks
from quickstudy.strategies.functional import class_means, in_full_precision
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class VERSA(EmbeddingStrategy):
    """A network reads each class's mean feature and gives a distribution of its linear weights.

        c_k = mean of f(x_i; φ) over the support of class k
        (μ_k, log σ_k²) = g(c_k; φ),   ψ_k = (w_k, b_k) ~ N(μ_k, diag σ_k²)
        p(y = k | x) = 1/L Σ_l softmax(w^(l) f(x; φ) + b^(l))_k

    The logits are log p, so that the usual loss is the paper's: minus the logarithm of the mean
    over L samples, a Monte Carlo estimate of the log posterior predictive. Classes are inferred
    each by itself (context independent inference), so that any number of ways will do.

    Gordon, Bronskill, Bauer, Nowozin, Turner, "Meta-Learning Probabilistic Inference for
    Prediction", ICLR 2019, sections 2 and 3. What differs: in use the samples come from noise that
    is the same for every task, so that predictions are a function of the support and the query.
    Classes have noise of their own, as the distribution wants, in an order that their features
    say, so that what they are called does not matter. g has no bias in the means: all classes would
    share it, and softmax does not see that.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        samples: L in meta-training; 0 for the mean weights alone, without a distribution.
        test_samples: L in use; as many as in training by default, 0 for the mean weights.
        width: of g's two hidden layers; by default D, as in the paper.
        seed: random seed of the noise in use.
    """

    paper = "Gordon, Bronskill, Bauer, Nowozin, Turner, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        samples: int = 10,
        test_samples: int | None = None,
        width: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder)
        if samples < 0 or (test_samples or 0) < 0:
            raise InputError(
                f"VERSA's samples are {samples} and its test_samples {test_samples}; neither may "
                "be negative."
            )
        if test_samples and not samples:
            raise InputError(
                f"VERSA cannot draw {test_samples} test_samples when it was trained on the mean "
                "weights alone (samples=0), for it has learned no variance; give samples too."
            )
        features = feature_size(encoder)
        wide = features if width is None else width
        check_positive("VERSA", width=wide)
        self.samples = samples
        self.test_samples = test_samples
        self.width = width
        self.seed = seed
        self.hidden = nn.Sequential(perceptron(features, wide, wide, activation=nn.ELU), nn.ELU())
        self.mean = nn.Linear(wide, features + 1, bias=False)
        self.log_variance = nn.Linear(wide, features + 1) if samples else None
        if self.log_variance is not None:
            # The noise of a logit then begins as large as a number of the feature, not √D times.
            nn.init.constant_(self.log_variance.bias, -math.log(features))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        means = class_means(support.inputs, support.targets, ways)
        hidden = self.hidden(means)
        weights = self.mean(hidden)[:, None]
        if self.log_variance is not None and self.draws:
            weights = reparametrized(weights, self.log_variance(hidden)[:, None], self.noise(means))
        return {"weight": weights[..., :-1], "bias": weights[..., -1]}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return log_of_average(features, theta["weight"], theta["bias"])

    @property
    def draws(self) -> int:
        """L of the present mode, training or use."""
        if self.training or self.test_samples is None:
            return self.samples
        return self.test_samples

    def noise(self, means: Tensor) -> Tensor:
        """Standard normal numbers ``[T, L, ways, D + 1]`` for classes of means ``[T, ways, D]``."""
        tasks, ways, size = means.shape
        if self.training:
            shape = (tasks, self.draws, ways, size + 1)
            return torch.randn(shape, dtype=means.dtype, device=means.device)
        generator = torch.Generator().manual_seed(self.seed)
        fixed = torch.randn(self.draws, ways, size + 1, generator=generator).to(means)
        return fixed[:, ranks(means)].transpose(0, 1)


@in_full_precision
def reparametrized(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Samples μ + σ ε of a Gaussian, from standard normal ε; shapes are broadcast."""
    return mean + (log_variance / 2).exp() * noise


@in_full_precision
def log_of_average(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The logarithm of the mean probability that several linear classifiers give.

    Args:
        features: ``[T, Q, D]``.
        weight: of L classifiers, ``[T, L, ways, D]``.
        bias: ``[T, L, ways]``.

    Returns:
        ``[T, Q, ways]``.
    """
    each = linear(features, weight.flatten(1, 2), bias.flatten(1, 2))
    logits = each.view(*each.shape[:2], *weight.shape[1:3])  # [T, Q, L, ways]
    return logits.log_softmax(-1).logsumexp(2) - math.log(weight.shape[1])
