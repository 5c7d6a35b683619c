"""Predictions for support examples by learners that have not seen them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.progress import report
from quickstudy.strategies import Strategy


def out_of_fold_logits(
    strategy: Strategy,
    support: Examples,
    ways: int,
    folds: int = 5,
    seed: int = 0,
    always: Examples | None = None,
    together: int = 1,
) -> tuple[Tensor, float]:
    """Logits of each support example from a learner that did not see it.

    The examples are divided into folds, and the strategy adapts to all but one at a time, or all
    but a few (Stone, "Cross-validatory choice and assessment of statistical predictions", 1974).
    Every class keeps an example in every learner's support. The numbers of examples that
    classes lose differ by at most one, so that no class is at a disadvantage.

    Args:
        strategy: in evaluation mode.
        support: one task's examples, inputs ``[1, N, *shape]``.
        ways: the number of classes K.
        folds: largest number of folds; fewer if the largest class is smaller.
        seed: random seed of the division into folds.
        always: further examples that every learner sees.
        together: number of folds that each learner leaves out.

    Returns:
        The logits ``[N, K]``, with rows of NaN for the examples of classes that have no more than
        ``together``; and the mean number of examples that the learners saw.
    """
    targets = support.targets[0]
    kept_alive = set() if always is None else {*always.targets[0].tolist()}
    fold_of = _folds(targets, ways, folds, seed, kept_alive, together)
    logits = support.inputs.new_full((len(targets), ways), torch.nan, dtype=torch.float32)
    count, seen = int(fold_of.max()) + 1, []
    for first in range(0, count, together):
        report(f"holding out {together} of {count} parts", first, count)
        inside = (fold_of >= 0) & ((fold_of - first) % count < together)
        kept, asked = (~inside).nonzero()[:, 0], inside.nonzero()[:, 0]
        known = Examples(support.inputs[:, kept], support.targets[:, kept])
        if always is not None:
            known = joined(known, always)
        with torch.no_grad():
            theta = strategy.adapt(known, ways)
            logits[asked] = strategy.predict(theta, support.inputs[:, asked])[0].float()
        seen.append(known.targets.shape[1])
    return logits, float(np.mean(seen)) if seen else 0.0


def joined(some: Examples, more: Examples) -> Examples:
    """The examples of both, of the same tasks."""
    return Examples(
        torch.cat([some.inputs, more.inputs], dim=1),
        torch.cat([some.targets, more.targets], dim=1),
    )


def _folds(
    targets: Tensor, ways: int, folds: int, seed: int, kept_alive: set[int], together: int
) -> Tensor:
    """The fold ``[N]`` of each example; -1 for examples of classes too small to hold any out."""
    generator = torch.Generator().manual_seed(seed)
    fold_of = torch.full(targets.shape, -1)
    sizes = torch.bincount(targets.cpu(), minlength=ways)
    folds = max(1, min(folds, int(sizes.max())))
    first = 0  # of a class: small classes do not all begin with the same fold
    for label in range(ways):
        members = (targets.cpu() == label).nonzero()[:, 0]
        if len(members) > together or label in kept_alive:
            order = torch.randperm(len(members), generator=generator)
            fold_of[members[order]] = (first + torch.arange(len(members))) % folds
            first += len(members) % folds
    return fold_of.to(targets.device)
