"""Attentive neural processes (Kim et al., 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.neural_process import NeuralProcess
from quickstudy.strategies.bases.perceptron import perceptron
from quickstudy.strategies.functional import class_means, in_full_precision
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import LossAndLogits, Theta

LEAST_DEVIATION = 0.1
"""Of the latent's distribution, in the authors' code; its largest is 1."""


class AttentiveNeuralProcess(NeuralProcess):
    """A conditional neural process in which each query attends to the examples near it.

        r(x) = attention of f(x) to the f(x_i), which gives the r_i = h(f(x_i), y_i; φ)
        z ~ q(z | C) = N(m(s), v(s)²),   s = mean of h'(f(x_i), y_i; φ)
        (μ, σ) = g(f(x), r(x), z; φ)

    where C is the support. The latent z is for what the support leaves open of the task as a whole.
    Meta-training makes a lower bound of the likelihood large, whose posterior also reads the
    targets of the query:

        log p(y | x, C) ≥ E log p(y | x, C, z) − KL(q(z | C, x, y) ‖ q(z | C)),   z ~ q(z | C, x, y)

    with one draw of z. In use z is the mean of q(z | C); :meth:`drawn` gives θ with another.

    Kim, Mnih, Schwarz, Garnelo, Eslami, Rosenbaum, Vinyals, Teh, "Attentive Neural Processes", ICLR
    2019, section 3, with multi-head attention and without self-attention among the examples.
    Likelihoods are of support and query in regression, as in the paper. Attention asks with vectors
    of an encoder f, as the paper does with those of a network.

    What differs: the paper is about regression. For classification each class is a set of its own
    (see ``ConditionalNeuralProcess``): a query attends to the examples of each class by itself,
    each class has its own z_k, and likelihoods are of the query.

    Args:
        latent: whether there is a z. Without it tasks of a meta-batch can be trained in one call,
            as nothing is drawn.
        width: width of all representations and hidden layers; a multiple of ``heads``.
        heads: number of heads of the attention; 8 in the paper.
        layers: of h and h'.
    """

    paper = "Kim, Mnih, Schwarz, Garnelo, Eslami, Rosenbaum, Vinyals, Teh, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        target_size: int | None = None,
        latent: bool = True,
        width: int = 128,
        heads: int = 8,
        layers: int = 4,
        decoder_layers: int = 3,
        least_deviation: float = 0.1,
    ) -> None:
        summary = 2 * width if latent else width
        super().__init__(encoder, target_size, summary, width, decoder_layers, least_deviation)
        check_positive("AttentiveNeuralProcess", heads=heads, layers=layers)
        if width % heads:
            raise InputError(f"The width {width} must be a multiple of the {heads} heads.")
        self.latent = latent
        self.heads = heads
        self.layers = layers
        size, widths = feature_size(encoder), [width] * layers
        self.codes = perceptron(self.pair_size, *widths)
        # Softmax does not see what is added to all scores of a query: no biases.
        self.queries = nn.Linear(size, width, bias=False)
        self.keys = nn.Linear(size, width, bias=False)
        self.values = nn.Linear(width, width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        if latent:
            self.latent_codes = perceptron(self.pair_size, *widths)
            self.latent_moments = perceptron(width, width, 2 * width)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        pairs, of_set, sets = self.sets(support, ways)
        theta = {
            "keys": self.keys(support.inputs),
            "values": self.values(self.codes(pairs)),
            "members": F.one_hot(of_set, sets).bool().mT,
        }
        return theta | self.latent_distribution(support, ways) if self.latent else theta

    def latent_distribution(self, examples: Examples, ways: int) -> Theta:
        """q(z | examples) of each set: z at its mean, and its deviation, ``[T, S, width]``."""
        pairs, of_set, sets = self.sets(examples, ways)
        codes = class_means(self.latent_codes(pairs), of_set, sets)
        mean, raw = self.latent_moments(codes).chunk(2, dim=-1)
        deviation = LEAST_DEVIATION + (1 - LEAST_DEVIATION) * raw.sigmoid()
        return {"latent": mean, "latent_deviation": deviation}

    def drawn(self, theta: Theta) -> Theta:
        """θ with a draw from q(z | C) in place of its mean: another function the support allows.

        Raises:
            ValueError: when there is no z.
        """
        if not self.latent:
            raise InputError("There is no latent to draw: make the strategy with latent=True.")
        mean, deviation = theta["latent"], theta["latent_deviation"]
        return theta | {"latent": mean + deviation * torch.randn_like(mean)}

    def representation(self, theta: Theta, features: Tensor) -> Tensor:
        queries, keys, values = self.queries(features), theta["keys"], theta["values"]
        attended: Tensor = self.merge(
            set_attention(queries, keys, values, theta["members"], self.heads)
        )
        if not self.latent:
            return attended
        latent = theta["latent"][:, None].expand_as(attended)
        return torch.cat([attended, latent], dim=-1)

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        if not self.latent:
            return super().loss(episode, features)
        features = self.embed(episode, {}) if features is None else features
        support, everything = self.embedded(episode, features)
        theta = self.adapt_features(support, episode.ways)
        posterior = self.latent_distribution(everything, episode.ways)
        judged, logits = everything, None
        if self.target_size is None:
            judged = Examples(features[:, support.inputs.shape[1] :], episode.query.targets)
            with torch.no_grad():
                logits = self(episode, features)  # from the support alone
        surprise = self.surprise(theta | self.drawn(posterior), judged)
        distance = divergence(posterior, theta).mean() / judged.inputs.shape[1]
        return surprise + distance, logits


@in_full_precision
def set_attention(
    queries: Tensor, keys: Tensor, values: Tensor, members: Tensor, heads: int
) -> Tensor:
    """Σ_i softmax over the i of a set of (qᵀ k_i / √d) v_i, for each head, set by set.

    Args:
        queries: ``[T, Q, W]``, as keys and values divided among the heads, d = W / heads.
        keys: ``[T, N, W]``.
        values: ``[T, N, W]``.
        members: ``[T, S, N]`` bool: which example is of which set.
        heads: how many.

    Returns:
        ``[T, Q, S, W]``.
    """
    asked, sets = queries.shape[1], members.shape[1]
    queries, keys, values = (
        each.reshape(*each.shape[:2], heads, -1).transpose(1, 2) for each in (queries, keys, values)
    )
    attended = F.scaled_dot_product_attention(
        queries.repeat(1, 1, sets, 1),  # once for each set
        keys,
        values,
        attn_mask=members.repeat_interleave(asked, 1)[:, None],
    )
    by_set = attended.reshape(*attended.shape[:2], sets, asked, -1)
    return by_set.permute(0, 3, 2, 1, 4).flatten(3)


def divergence(posterior: Theta, prior: Theta) -> Tensor:
    """KL(posterior ‖ prior) of two latents, summed over their numbers and sets: ``[T]``."""
    return normal_divergence(
        posterior["latent"],
        posterior["latent_deviation"],
        prior["latent"],
        prior["latent_deviation"],
    )


@in_full_precision
def normal_divergence(
    mean: Tensor, deviation: Tensor, prior_mean: Tensor, prior_deviation: Tensor
) -> Tensor:
    """KL(N(m, v²) ‖ N(m', v'²)), each ``[T, ...]``, summed over all but the task."""
    ratio = deviation / prior_deviation
    apart = (mean - prior_mean) / prior_deviation
    return (0.5 * (ratio.square() + apart.square() - 1) - ratio.log()).flatten(1).sum(1)
