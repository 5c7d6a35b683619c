"""A simple neural attentive meta-learner (Mishra, Rohaninejad, Chen, Abbeel, 2018)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.set_networks import reading_order
from quickstudy.strategies.functional import attend_beside_oneself
from quickstudy.strategies.solvers import check_positive
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

LABEL_SIZE = 64


class SNAIL(EmbeddingStrategy):
    """Convolutions and attention over the sequence of labelled examples, with a query at its end.

        (x_1, y_1), .., (x_N, y_N), (x, –)  →  A(64, 32), C(T, 128), A(256, 128), C(T, 128),
                                               A(512, 256), linear  →  logits at the last place

        A(K, V):  z → [z, softmax(q(z) k(z)ᵀ / √K) v(z)],   k and q of K numbers, v of V
        C(T, D):  dense blocks z_t → [z_t, tanh(F z)_t ∘ σ(G z)_t] with D filters each, where
                  (F z)_t = F_0 z_t + F_1 z_{t−d} + a, and d = 1, 2, 4, .. in ⌈log₂ T⌉ blocks

    Nothing sees what comes after it. So what the support does to the network is the same for each
    query, and θ is the part of it that a last place looks at: keys and values of attention, and
    F_1 z and G_1 z of the place d before. A query then takes the work of one place.

    Mishra, Rohaninejad, Chen, Abbeel, "A Simple Neural Attentive Meta-Learner", ICLR 2018, section
    3 and appendix A. The paper's listing begins with d = 2, which never sees an odd distance. The
    paper appends a one-hot label to x; here it is a learned vector for each label, and zeros for
    the query. The paper reads in random order, here it is computed from the features, class by
    class, so that the order of the support does not matter. Features enter with mean 0 and variance
    1 each (layer normalisation without parameters), so that they weigh what labels weigh, whatever
    the encoder's scale.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        ways: classes in a task: the labels, and the linear outputs.
        longest: the most examples that a support may have; T is one more.
        filters: of a dense block; the paper's 128. The sizes of attention grow and shrink with it.
    """

    paper = "Mishra, Rohaninejad, Chen, Abbeel, 2018"

    def __init__(
        self, encoder: nn.Module, ways: int = 5, longest: int = 25, filters: int = 128
    ) -> None:
        super().__init__(encoder)
        check_positive("SNAIL", ways=ways, longest=longest, filters=filters)
        if filters % 4:
            raise InputError(
                f"SNAIL's filters are {filters}; a quarter of them are the first attention's "
                "values, so give a multiple of 4."
            )
        self.ways = ways
        self.longest = longest
        self.filters = filters
        self.labels = nn.Embedding(ways, LABEL_SIZE)
        self.blocks = nn.ModuleList()
        wide = feature_size(encoder) + LABEL_SIZE
        for keys, values in (
            (filters // 2, filters // 4),
            (2 * filters, filters),
            (4 * filters, 2 * filters),
        ):
            if len(self.blocks):
                for layer in range(longest.bit_length()):  # ⌈log₂ (longest + 1)⌉
                    self.blocks.append(DenseBlock(wide, filters, dilation=2**layer))
                    wide += filters
            self.blocks.append(AttentionBlock(wide, keys, values))
            wide += values
        self.output = nn.Linear(wide, ways)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        self.check_ways(ways)
        features, targets = support.inputs, support.targets
        if targets.shape[1] > self.longest:
            raise InputError(
                f"A support of {targets.shape[1]} examples was given, and this SNAIL was made for "
                f"{self.longest} at most: give fewer, or make and train one whose `longest` is "
                f"{targets.shape[1]}."
            )
        order = reading_order(features, targets, ways)
        x = torch.cat([normalized(features), self.labels(targets)], dim=-1)
        x = x.gather(1, order[..., None].expand_as(x))
        theta: Theta = {}
        for number, block in enumerate(self.blocks):
            x, seen = block(x)
            theta |= {f"{number}.{name}": value for name, value in seen.items()}
        return theta

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        x = F.pad(normalized(features), (0, LABEL_SIZE))
        for number, block in enumerate(self.blocks):
            prefix = f"{number}."
            seen = {k.removeprefix(prefix): v for k, v in theta.items() if k.startswith(prefix)}
            x = block.at_the_end(x, seen)  # type: ignore[operator]
        logits: Tensor = self.output(x)
        return logits


def normalized(features: Tensor) -> Tensor:
    """Features ``[T, M, D]``, each with mean 0 and variance 1."""
    return F.layer_norm(features, features.shape[-1:])


class CausalBlock(nn.Module, ABC):
    """Appends to each place of a sequence what it computes from it and the places before."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Theta]:
        """Longer vectors of a sequence ``[T, N, C]``, and what a place after the last will see."""

    @abstractmethod
    def at_the_end(self, x: Tensor, seen: Theta) -> Tensor:
        """Longer vectors of ``[T, Q, C]``, each of which is the place after the last."""


class AttentionBlock(CausalBlock):
    """A(K, V): a place looks at itself and those before.

    Args:
        features: C.
        keys: K.
        values: V, the numbers appended.
    """

    def __init__(self, features: int, keys: int, values: int) -> None:
        super().__init__()
        self.sizes = (keys, keys, values)
        self.projections = nn.Linear(features, sum(self.sizes))

    def forward(self, x: Tensor) -> tuple[Tensor, Theta]:
        query, key, value = self.projections(x).split(self.sizes, dim=-1)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return torch.cat([x, read], dim=-1), {"keys": key, "values": value}

    def at_the_end(self, x: Tensor, seen: Theta) -> Tensor:
        query, key, value = self.projections(x).split(self.sizes, dim=-1)
        query = query / self.sizes[0] ** 0.5
        read = attend_beside_oneself(query, seen["keys"], seen["values"], key, value)
        return torch.cat([x, read], dim=-1)


class DenseBlock(CausalBlock):
    """A gated convolution of two places, whose output is appended to its input.

    Args:
        features: C.
        filters: the numbers appended.
        dilation: d, how far apart the two places are; before the first there are zeros.
    """

    def __init__(self, features: int, filters: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.now = nn.Linear(features, 2 * filters)
        self.before = nn.Linear(features, 2 * filters, bias=False)
        # A distance that no training task is long enough for says nothing in a longer one.
        nn.init.zeros_(self.before.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Theta]:
        before = F.pad(self.before(x), (0, 0, self.dilation, 0))  # at t what t − d sends there
        length = x.shape[1]
        return self.appended(x, before[:, :length]), {"before": before[:, length : length + 1]}

    def at_the_end(self, x: Tensor, seen: Theta) -> Tensor:
        return self.appended(x, seen["before"])

    def appended(self, x: Tensor, before: Tensor) -> Tensor:
        value, gate = (self.now(x) + before).chunk(2, dim=-1)
        return torch.cat([x, value.tanh() * gate.sigmoid()], dim=-1)
