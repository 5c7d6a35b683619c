"""Which inputs to label next."""

from __future__ import annotations

import torch
from torch import Tensor

LOOKED_AT = 5000
"""Of more inputs than this a sample is looked at: time and memory grow with its square."""


def suggest(features: Tensor, support: Tensor, n: int, seed: int = 0) -> Tensor:
    """The n inputs that leave the least distance from all inputs to the nearest labelled one.

        min over S, |S| = n, of  Σ_u min over s in L ∪ S of ‖f(u) − f(s)‖²

    chosen one after another, each as the best that can be added (facility location: Wei, Iyer,
    Bilmes, "Submodularity in Data Subset Selection and Active Learning", ICML 2015). With few
    labels this helps more than asking where the learner is unsure, as it does not yet know what it
    does not know (Hacohen, Dekel, Weinshall, "Active Learning on a Budget", ICML 2022).

    Args:
        features: features of the inputs without labels, ``[U, D]``.
        support: of the labelled examples L, ``[N, D]``.
        n: how many, at most U.
        seed: random seed of the sample that is used if U is very large.

    Returns:
        int64 ``[n]``, numbers of inputs, the most helpful first.
    """
    numbers = torch.arange(len(features))
    if len(features) > max(LOOKED_AT, n):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randperm(len(features), generator=generator)[: max(LOOKED_AT, n)]
    numbers = numbers.to(features.device)
    looked_at = features[numbers].float()
    between = torch.cdist(looked_at, looked_at).square()
    left = torch.cdist(looked_at, support.float()).min(1).values.square()
    free = torch.ones(len(looked_at), dtype=torch.bool, device=features.device)
    chosen = []
    for _ in range(n):
        gains = (left[:, None] - between).clamp_min_(0).sum(0)
        best = int(gains.masked_fill(~free, -1).argmax())
        chosen.append(best)
        free[best] = False
        left = torch.minimum(left, between[:, best])
    return numbers[torch.tensor(chosen, device=features.device)]
