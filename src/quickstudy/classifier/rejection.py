"""How surely an input is of one of the classes at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.strategies.functional import class_means


@dataclass(frozen=True)
class KnownScore:
    """The nearness of the nearest class mean: s(x) = −min over k of ‖f(x) − m_k‖².

    Distances to class means tell unknown classes from known ones where probabilities do not, which
    must sum to 1 over the known ones however far away x is (Mensink, Verbeek, Perronnin, Csurka,
    "Distance-Based Image Classification", PAMI 2013; Bendale, Boult, "Towards Open World
    Recognition", CVPR 2015). What score known inputs get is learned from examples that are held
    out: each is compared with the mean of the others of its class.

    Args:
        means: m, ``[K, D]``.
        of_known: the scores of held-out examples, ascending, ``[M]``.
    """

    means: Tensor
    of_known: Tensor

    @classmethod
    def fitted(
        cls, features: Tensor, targets: Tensor, ways: int, held_out: Tensor | None = None
    ) -> Self:
        """Learns from the features of the support ``[N, D]``, as the learner compares them.

        Args:
            features: of the support.
            targets: of the support.
            ways: the number of classes K.
            held_out: ``[N]``, which examples are like the inputs to come; all by default.
        """
        means = class_means(features[None], targets[None], ways)[0]
        sizes = torch.bincount(targets, minlength=ways)[targets].to(features)
        asked = sizes > 1 if held_out is None else held_out & (sizes > 1)
        x, y, n = features[asked], targets[asked], sizes[asked]
        distances = torch.cdist(x, means).square()
        # The distance to the mean of the others, which with noise of one variance is
        # (1 + 1/(n-1)) / (1 + 1/n) times that of an input to come.
        others = (x - means[y]).square().sum(1) * (n / (n - 1)) ** 2
        own = others * (1 + 1 / n) / (1 + 1 / (n - 1))
        distances.scatter_(1, y[:, None], own[:, None])
        return cls(means, -distances.min(1).values.sort(descending=True).values)

    def scores(self, features: Tensor) -> Tensor:
        """The scores s ``[Q]`` of features ``[Q, D]``: higher is more surely known."""
        return -torch.cdist(features, self.means).min(1).values.square()

    def threshold(self, share: float = 0.95) -> float:
        """The score that this share of inputs of known classes reaches.

        Raises:
            ValueError: when the share is not between 0 and 1, or no class has two examples.
        """
        if not 0 < share < 1:
            raise InputError(
                f"The share of known inputs to keep is {share}; it must lie between 0 and 1, as "
                "0.95 does."
            )
        if not len(self.of_known):
            raise InputError(
                "How near inputs of known classes are is measured on examples that are held out, "
                "and every class has only one; give at least two of some classes."
            )
        rank = int((1 - share) * (len(self.of_known) + 1))
        return float(self.of_known[rank - 1]) if rank else self._below_all(share)

    def _below_all(self, share: float) -> float:
        """The threshold where so few were held out that it lies below all of them.

        Taken for a sample of a normal distribution, logarithms of squared distances tell by
        Student's t what one more of them stays under.
        """
        from scipy.special import stdtrit

        if len(self.of_known) < 2:
            return -math.inf
        logs = (-self.of_known.double()).clamp(min=1e-30).log()
        spread = float(logs.std()) * math.sqrt(1 + 1 / len(logs))
        bound = float(logs.mean()) + float(stdtrit(len(logs) - 1, share)) * spread
        return min(float(self.of_known[0]), -math.exp(min(bound, 700.0)))

    def state(self) -> dict[str, Tensor]:
        """The tensors to save."""
        return {"means": self.means, "of_known": self.of_known}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self:
        """What :meth:`state` gave."""
        return cls(state["means"], state["of_known"])
