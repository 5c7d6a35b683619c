"""Conditional neural adaptive processes (Requeima, Gordon, Bronskill, Nowozin, Turner, 2019)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import encoded_tasks
from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.strategies.bases.modulation import (
    Modulations,
    modulated_channels,
    modulated_features,
)
from quickstudy.strategies.bases.perceptron import perceptron
from quickstudy.strategies.functional import class_means
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class CNAPS(EmbeddingStrategy):
    """Networks that read the support adapt each layer of an encoder, then write a classifier.

        z = mean of g(x_i; φ) over the support                              the task's embedding
        (γ_l, β_l) = ψ_l(z; φ),   layer l of f_τ:  h → (1 + γ_l) h + β_l     the adapted encoder
        z_k = mean of f_τ(x_i) over the support of class k
        w_k = z_k + ψ_w(z_k; φ),   b_k = ψ_b(z_k; φ)                        a row for each class
        p(y = k | x) ∝ exp((w_kᵀ f_τ(x) + b_k) / √D)

    Requeima, Gordon, Bronskill, Nowozin, Turner, "Fast and Flexible Multi-Task Classification Using
    Conditional Neural Adaptive Processes", NeurIPS 2019, sections 2 and 3. In the paper the encoder
    has learned by ordinary classification before (``start_from``) and does not change any more
    (``frozen``); it can be learned along, too.

    What differs: there is no auto-regressive part, in which the adaptation of a layer also reads
    the support as the adapted layers below see it. The set encoder g is of the same architecture as
    the encoder. Scales and shifts are not penalised for being large. Logits are divided by √D, so
    that they begin moderate however long the features are.

    Args:
        encoder: f, maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features`` and
            ``modulated_channels`` and takes a modulation (``Conv4``, ``ResNet12``, ``MLP``). The
            set encoder begins as a copy of it.
        frozen: the encoder keeps its weights and its running averages, which it then also uses in
            training; only what adapts it is learned.
        width: width of the hidden layers of ψ.
    """

    paper = "Requeima, Gordon, Bronskill, Nowozin, Turner, 2019"

    def __init__(self, encoder: nn.Module, frozen: bool = False, width: int = 128) -> None:
        super().__init__(encoder)
        check_positive("CNAPS", width=width)
        self.frozen = frozen
        self.width = width
        size, channels = feature_size(encoder), modulated_channels(encoder)
        self.set_encoder = copy.deepcopy(encoder).requires_grad_()
        self.modulations = Modulations(
            perceptron(size, width, width, 2 * wide, activation=nn.ELU) for wide in channels
        )
        # A bias shared by all classes would cancel in the softmax, so the last layers have none.
        self.rows = perceptron(size, width, width, size, activation=nn.ELU, last_bias=False)
        self.biases = perceptron(size, width, width, 1, activation=nn.ELU, last_bias=False)
        if frozen:
            encoder.requires_grad_(False).eval()

    def condition(self, support: Examples, ways: int) -> Theta:
        """The modulation: ``[T, channels]`` scale and shift of each layer."""
        features = encoded_tasks(self.set_encoder, support.inputs)
        task = class_means(features, torch.zeros_like(support.targets), 1)[:, 0]
        theta: Theta = self.modulations(task)
        return theta

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``, by the adapted encoder."""
        return modulated_features(self.encoder, inputs, theta)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        means = class_means(support.inputs, support.targets, ways)
        scale = means.shape[-1] ** -0.5
        weight = means + self.rows(means)
        return {"weight": scale * weight, "bias": scale * self.biases(means)[:, :, 0]}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(features, theta["weight"], theta["bias"])
