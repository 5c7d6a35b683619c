"""Latent embedding optimization (Rusu and others, 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.inner_loop import descend
from quickstudy.strategies.functional import class_means, in_full_precision, task_loss
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import EmbeddingStrategy, LossAndLogits, Theta


class Adaptation(NamedTuple):
    """How the classes of T tasks came by their weights.

    Args:
        mean: μ of the codes, ``[T, ways, latent]``.
        log_deviation: log σ of the codes.
        start: the codes z that were drawn.
        end: z' after the steps in the latent space.
        weight: w' after the steps on the weights themselves, ``[T, ways, D]``.
    """

    mean: Tensor
    log_deviation: Tensor
    start: Tensor
    end: Tensor
    weight: Tensor


class LEO(EmbeddingStrategy):
    """Each class has a short code, decoded into its weights; the inner loop adapts the code.

        (μ_k, σ_k) = mean of r(e(x_i), e(x_j)) over i of class k and all j,   z_k ~ N(μ_k, σ_k²)
        w_k ~ N(μ(z_k), σ(z_k)²),   L(w) = sum of −log softmax(w x_i)_{y_i} over the support
        z ← z − α ∇_z L(w(z)), some steps,   then   w ← w − η ∇_w L(w), some steps

    with x the features of a pretrained encoder, which stays as it is, e the (linear) encoder of
    codes, r the relation network and (μ, σ) the (linear) decoder. The rates α and η are learned,
    one for each number of a code and of a weight. Meta-training makes small

        −log p(y | x; w') + β KL(N(μ, σ²) ‖ N(0, 1)) + γ |stopgrad(z') − z|²
            + λ₁ (|e|² + |r|² + |decoder|²) + λ₂ |C − 1|²

    where C holds the cosines between what the decoder makes of each number of a code. In use means
    take the place of samples.

    Rusu, Rao, Sygnowski, Vinyals, Pascanu, Osindero, Hadsell, "Meta-Learning with Latent Embedding
    Optimization", ICLR 2019, section 2. As in the authors' programs, whose numbers are the defaults
    here, features are scaled to length 1, dropped out wherever they are read in training, and all
    penalties but λ₁'s are means over their numbers. What differs from those programs:

    - With K shots they keep K codes for each class, drawn independently from its distribution, and
      K weight vectors, whose mean classifies. Each copy moves by its own gradient, which is 1/K of
      the mean's, so a step moves the class's weights 1/K as far as here, where a class has one
      code. The two agree for one shot; with more, the learned rates make up for the factor at the
      number of shots that they were trained on.
    - Deviations are exponentials that begin at Glorot's; theirs are max(exp(s) − 1, 1e-10) for
      codes, and the same plus Glorot's for weights.
    - KL is in closed form; theirs is estimated from the samples. λ₁'s squares are not halved.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. It
            should have learned already (``start_from``).
        latent: the length of a code.
        inner_steps: gradient steps on the codes.
        tuning_steps: gradient steps on the weights, after those.
        inner_learning_rate: what every α starts from.
        tuning_learning_rate: what every η starts from.
        divergence: β.
        encoder_penalty: γ.
        weight_penalty: λ₁.
        orthogonality: λ₂.
        dropout: the share of a feature's numbers that is dropped in training.
        frozen: keep the encoder as it is, its batch normalisation included; else it is
            learned with the rest.
    """

    paper = "Rusu, Rao, Sygnowski, Vinyals, Pascanu, Osindero, Hadsell, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        latent: int = 64,
        inner_steps: int = 5,
        tuning_steps: int = 5,
        inner_learning_rate: float = 1.0,
        tuning_learning_rate: float = 0.001,
        divergence: float = 1e-3,
        encoder_penalty: float = 1e-9,
        weight_penalty: float = 1e-8,
        orthogonality: float = 1e-3,
        dropout: float = 0.5,
        frozen: bool = True,
    ) -> None:
        super().__init__(encoder)
        check_positive("LEO", latent=latent)
        if min(inner_steps, tuning_steps) < 0 or not 0 <= dropout < 1:
            raise InputError(
                f"LEO's inner_steps are {inner_steps}, its tuning_steps {tuning_steps} and its "
                f"dropout {dropout}; steps must be 0 or more, dropout from 0 to below 1."
            )
        if min(divergence, encoder_penalty, weight_penalty, orthogonality) < 0:
            raise InputError(
                f"LEO's divergence is {divergence}, its encoder_penalty {encoder_penalty}, its "
                f"weight_penalty {weight_penalty} and its orthogonality {orthogonality}; none may "
                "be negative."
            )
        self.latent = latent
        self.inner_steps = inner_steps
        self.tuning_steps = tuning_steps
        self.inner_learning_rate = inner_learning_rate
        self.tuning_learning_rate = tuning_learning_rate
        self.divergence = divergence
        self.encoder_penalty = encoder_penalty
        self.weight_penalty = weight_penalty
        self.orthogonality = orthogonality
        self.dropout = dropout
        self.frozen = frozen
        size = feature_size(encoder)
        self.relation = RelationEncoder(size, latent)
        self.decoder = nn.Linear(latent, 2 * size, bias=False)
        nn.init.xavier_uniform_(self.decoder.weight)
        self.code_rates = nn.Parameter(torch.full((latent,), float(inner_learning_rate)))
        self.weight_rates = nn.Parameter(torch.full((size,), float(tuning_learning_rate)))
        if frozen:
            encoder.requires_grad_(False)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        return {"weight": self.adapted(support.inputs, support.targets, ways).weight}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return linear(self.dropped(unit(features)), theta["weight"])

    def forward(
        self,
        episode: Episode,
        features: Tensor | None = None,
        found: list[Adaptation] | None = None,
    ) -> Tensor:
        """Logits ``[T, Q, ways]``; puts what they come from into ``found`` if it is given."""
        support = episode.support
        features = self.embed(episode, {}) if features is None else features
        shots = support.inputs.shape[1]
        adaptation = self.adapted(features[:, :shots], support.targets, episode.ways)
        if found is not None:
            found.append(adaptation)
        return self.predict_features({"weight": adaptation.weight}, features[:, shots:])

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        found: list[Adaptation] = []
        logits = self(episode, features, found)
        entropy = task_loss(logits, episode.query.targets)
        mean, log_deviation, start, end, _ = found[0]
        learned = [*self.relation.parameters(), self.decoder.weight]
        loss = (
            entropy
            + self.divergence * divergence_from_standard(mean, log_deviation).mean()
            + self.encoder_penalty * (end.detach() - start).square().mean()
            + self.weight_penalty * torch.stack([each.square().sum() for each in learned]).sum()
            + self.orthogonality * correlation_penalty(self.decoder.weight)
        )
        return loss, logits

    @in_full_precision
    def adapted(self, features: Tensor, targets: Tensor, ways: int) -> Adaptation:
        """From support features ``[T, N, D]`` and targets ``[T, N]`` to the classes' weights."""
        features = unit(features)
        mean, log_deviation = self.relation(self.dropped(features), targets, ways).chunk(2, -1)
        start = self.drawn(mean, log_deviation)
        end = descend(
            lambda theta, step: self.inner_loss(self.decode(theta["codes"]), features, targets),
            {"codes": start},
            moved,
            self.inner_steps,
            learned=[self.code_rates],
        )["codes"]
        weight = descend(
            lambda theta, step: self.inner_loss(theta["weight"], features, targets),
            {"weight": self.decode(end)},
            moved,
            self.tuning_steps,
            learned=[self.weight_rates],
        )["weight"]
        return Adaptation(mean, log_deviation, start, end, weight)

    def decode(self, codes: Tensor) -> Tensor:
        """Weights ``[T, ways, D]`` of codes ``[T, ways, latent]``."""
        mean, change = self.decoder(codes).chunk(2, dim=-1)
        return self.drawn(mean, change + glorot(mean.shape[-1], codes.shape[1]))

    def inner_loss(self, weight: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy of the support, summed over it and over tasks, which stay apart."""
        logits = linear(self.dropped(features), weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")

    def drawn(self, mean: Tensor, log_deviation: Tensor) -> Tensor:
        """A sample in training, the mean in use."""
        if not self.training:
            return mean
        return mean + log_deviation.exp() * torch.randn_like(mean)

    def dropped(self, features: Tensor) -> Tensor:
        """Features of which some numbers are zero in training."""
        return F.dropout(features, self.dropout, self.training)


class RelationEncoder(nn.Module):
    """The distribution of each class's code, from every support example beside every other.

    Three linear layers without biases, with ReLU between them, read the pairs; the last one is
    applied to their means, which is the same.

    Args:
        features: D.
        latent: the length of a code; layers are twice as wide.
    """

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Linear(features, latent, bias=False)
        self.first = nn.Linear(2 * latent, 2 * latent, bias=False)
        self.second = nn.Linear(2 * latent, 2 * latent, bias=False)
        self.last = nn.Linear(2 * latent, 2 * latent, bias=False)
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, features: Tensor, targets: Tensor, ways: int) -> Tensor:
        """μ and log σ ``[T, ways, 2 * latent]`` of features ``[T, N, D]``, targets ``[T, N]``."""
        encoded = self.encoder(features)
        own, other = (F.linear(encoded, half) for half in self.first.weight.chunk(2, dim=1))
        pairs = self.second((own[:, :, None] + other[:, None]).relu()).relu()
        both: Tensor = self.last(class_means(pairs.mean(2), targets, ways))
        mean, change = both.chunk(2, dim=-1)
        return torch.cat([mean, change + glorot(self.latent, self.latent)], dim=-1)


@in_full_precision
def unit(features: Tensor) -> Tensor:
    """Features ``[..., D]`` scaled to length 1."""
    return F.normalize(features, dim=-1)


def glorot(inputs: int, outputs: int) -> float:
    """The logarithm of the deviation that a layer's weights begin with (Glorot, Bengio, 2010)."""
    return math.log(2 / (inputs + outputs)) / 2


def moved(theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
    """θ after a step of gradient descent, with a rate for each number of its last axis."""
    (rates,) = learned
    return {name: each - rates * gradients[name] for name, each in theta.items()}


def divergence_from_standard(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) of each number."""
    return (mean.square() + (2 * log_deviation).exp() - 1) / 2 - log_deviation


def correlation_penalty(weight: Tensor) -> Tensor:
    """The mean square of C − 1, with C the cosines between the columns of ``[outputs, inputs]``."""
    columns = F.normalize(weight, dim=0)
    cosines = columns.mT @ columns
    return (cosines - torch.eye(len(cosines)).to(cosines)).square().mean()
