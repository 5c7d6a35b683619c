"""In-context learning of visual tasks, after CAML (Fifty et al., 2024)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.counts import Count, whole_range
from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.functional import (
    attend_beside_oneself,
    class_means,
    mean_feature,
    root_mean_square,
    similarity,
)
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta


class InContextLearner(EmbeddingStrategy):
    """A transformer reads query and labelled support as one sequence and completes the label.

        sequence  [f(x), 0], [f(x_1), e_{y_1}], .., [f(x_N), e_{y_N}]     0: "label unknown"
        a_ij ∝ exp(q_iᵀ k_j / √d + β z_iᵀ z_j)                            z: the label part
        h_i ← h_i + W Σ_j a_ij v_j,   z_i ← z_i + γ Σ_j a_ij z_j,   h_i ← h_i + MLP(h_i)
        p(y = k | x) ∝ exp(s zᵀ e_k − τ ‖h − mean of h_i over the support of class k‖²)

    with a, β and γ for each head. The label embeddings e_k are unit vectors of equal angles (ELMES:
    :func:`elmes`), around 0, which is equally far from all of them.

    Fifty, Duan, Junkins, Amid, Leskovec, Ré, Thrun, "Context-Aware Meta-Learning", ICLR 2024,
    sections 3 and 4. What differs: there any weights mix features with labels, and the output's
    classifier has a row for each label, so that predictions may change when classes are renamed;
    renaming turns the e_k as a rotation does, so here each map of the label part is a multiple of
    the identity, the only kind that every rotation leaves alone, and renaming classes renames
    predictions exactly. The readout also compares features with those of each class, and the
    transformer's updates are 0 at first, so that it begins as a prototypical network. Features are
    moved and scaled by the support's mean and mean squared length. And examples of the support do
    not look at the query, so that what a query reads of them is θ.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        max_ways: largest number of classes in a task; it sets the angle between label embeddings.
        width: width of the transformer.
        layers: number of layers of the transformer.
        heads: number of attention heads.
        frozen: do not train the encoder, as in the paper, where it is pretrained.
    """

    paper = "Fifty, Duan, Junkins, Amid, Leskovec, Ré, Thrun, 2024"

    def __init__(
        self,
        encoder: nn.Module,
        max_ways: int = 100,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        frozen: bool = False,
    ) -> None:
        super().__init__(encoder)
        check_positive("InContextLearner", width=width, layers=layers, heads=heads)
        if max_ways < 2:
            raise InputError(f"InContextLearner's max_ways is {max_ways}; it must be at least 2.")
        if width % heads:
            raise InputError(f"The width {width} must be a multiple of the {heads} heads.")
        self.max_ways = max_ways
        self.width = width
        self.heads = heads
        self.frozen = frozen
        features = feature_size(encoder)
        if frozen:
            encoder.requires_grad_(False)
        self.embedding = nn.Linear(features, width)
        self.layers = layers
        self.transformer = nn.ModuleList(LabelledAttention(width, heads) for _ in range(layers))
        # What is added to all outputs changes no distance between them: no bias.
        self.norm = nn.LayerNorm(width, bias=False)
        self.log_label_scale = nn.Parameter(torch.tensor(math.log(5.0)))
        # Outputs have a squared length of about the width; their cosines begin with a factor of 10.
        self.log_feature_scale = nn.Parameter(torch.tensor(math.log(5.0 / width)))

    def check_ways(self, ways: Count) -> None:
        super().check_ways(ways)
        most = whole_range(ways, "ways")[1]
        if most > self.max_ways:
            raise InputError(
                f"This InContextLearner has label embeddings for {self.max_ways} ways; the task "
                f"has {most}. Create and train one with a larger max_ways."
            )

    def embedded(self, features: Tensor, theta: Theta) -> Tensor:
        """What the sequence begins with, ``[T, M, width]``, of features ``[T, M, D]``."""
        # Numbers of size 1, whatever the encoder's are.
        usual = features.shape[-1] ** 0.5 * (features - theta["centre"]) / theta["length"]
        content: Tensor = self.embedding(usual)
        return content

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        self.check_ways(ways)
        centre = mean_feature(support.inputs)
        theta: Theta = {"centre": centre, "length": root_mean_square(support.inputs, centre)}
        content = self.embedded(support.inputs, theta)
        labels = elmes(ways, self.max_ways).to(centre)[support.targets]
        for number, layer in enumerate(self.transformer):
            query, key, value = layer.projected(content, labels)  # type: ignore[operator]
            theta |= {f"{number}.keys": key, f"{number}.values": value}
            attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
            content, labels = layer.updated(content, labels, attended)  # type: ignore[operator]
        return theta | {"classes": class_means(self.norm(content), support.targets, ways)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        ways = theta["classes"].shape[1]
        content = self.embedded(features, theta)
        labels = theta["centre"].new_zeros(*features.shape[:2], ways)
        for number, layer in enumerate(self.transformer):
            query, key, value = layer.projected(content, labels)  # type: ignore[operator]
            attended = attend_beside_oneself(
                query, theta[f"{number}.keys"], theta[f"{number}.values"], key, value
            )
            content, labels = layer.updated(content, labels, attended)  # type: ignore[operator]
        embeddings = elmes(ways, self.max_ways).to(labels)
        near = similarity(self.norm(content), theta["classes"], "euclidean")
        voted = self.log_label_scale.exp() * linear(labels, embeddings)
        return voted + self.log_feature_scale.exp() * near


def elmes(ways: int, most: int) -> Tensor:
    """Label embeddings of equal length and equal angles, as wide apart as ``most`` can be.

    Unit vectors whose inner products are −1 / (most − 1): corners of a regular simplex with
    ``most`` corners. Its first ``ways`` corners are turned into as many dimensions, which changes
    no inner product. A symmetric a I + b 1 1ᵀ does it.

    Args:
        ways: the number of vectors, ``most`` at the most.
        most: the number of corners, at least 2.

    Returns:
        ``[ways, ways]`` float64, a vector a row.
    """
    a = math.sqrt(most / (most - 1))
    b = (math.sqrt((most - ways) / (most - 1)) - a) / ways
    return a * torch.eye(ways, dtype=torch.float64) + b


class LabelledAttention(nn.Module):
    """A pre-norm transformer layer on pairs of features ``[T, M, width]`` and labels.

    Labels ``[T, M, K]`` enter by their inner products, and are passed on in each head's shares.

    Args:
        width: width of the features.
        heads: number of heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.projections = nn.Linear(width, 3 * width)
        self.agreement = nn.Parameter(torch.ones(heads))  # β
        self.votes = nn.Parameter(torch.zeros(heads))  # γ
        self.merge = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        for parameter in (*self.merge.parameters(), *self.mlp[-1].parameters()):
            nn.init.zeros_(parameter)

    def projected(self, content: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[T, heads, M, width / heads + K]``, scaled already."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.projections(self.norm(content)).chunk(3, dim=-1)
        )
        shared = labels[:, None].expand(-1, self.heads, -1, -1)
        agreeing = self.agreement[:, None, None] * shared
        return (
            torch.cat([query / math.sqrt(query.shape[-1]), agreeing.to(query)], dim=-1),
            torch.cat([key, shared.to(key)], dim=-1),
            torch.cat([value, shared.to(value)], dim=-1),
        )

    def updated(self, content: Tensor, labels: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Features and labels after ``attended`` ``[T, heads, M, width / heads + K]`` was read."""
        size = attended.shape[-1] - labels.shape[-1]
        read, voted = attended[..., :size], attended[..., size:]
        labels = labels + (self.votes[:, None, None] * voted).sum(1)
        content = content + self.merge(read.transpose(1, 2).flatten(2))
        update: Tensor = self.mlp(content)
        return content + update, labels
