"""What a learner says of its own examples when it has not seen them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.strategies import Strategy
from quickstudy.strategies.strategy import Theta


@dataclass(frozen=True)
class HeldOut:
    """Learners that have each not seen a part of the support, and what they say of that part.

    Args:
        thetas: θ of each learner.
        asked: for each learner the numbers of the examples that it has not seen.
        logits: of each example by the learner that has not seen it, ``[N, K]``; a row of NaN for
            an example that every learner has seen, as without it its class would have none.
    """

    thetas: list[Theta]
    asked: list[Tensor]
    logits: Tensor


def held_out(
    strategy: Strategy,
    support: Examples,
    ways: int,
    folds: int = 5,
    seed: int = 0,
    always: Examples | None = None,
) -> HeldOut:
    """Lets learners that have not seen an example of the support answer it.

    The examples are divided into folds, and the strategy adapts to all but one at a time
    (Stone, "Cross-validatory choice and assessment of statistical predictions", 1974). Every class
    keeps an example in every learner's support: a fold never holds all of one class. Classes lose
    as many examples as each other, give or take one, so that none is at a disadvantage.

    Args:
        strategy: in evaluation mode.
        support: one task's examples, inputs ``[1, N, *shape]``.
        ways: the number of classes K.
        folds: at most so many; fewer where the largest class is smaller.
        seed: of the division into folds.
        always: examples that every learner sees beside.
    """
    targets = support.targets[0]
    kept_alive = set() if always is None else {*always.targets[0].tolist()}
    fold_of = _folds(targets, ways, folds, seed, kept_alive)
    logits = support.inputs.new_full((len(targets), ways), torch.nan, dtype=torch.float32)
    thetas, asked = [], []
    for fold in range(int(fold_of.max()) + 1):
        inside = fold_of == fold
        kept = (~inside).nonzero()[:, 0]
        asked.append(inside.nonzero()[:, 0])
        seen = Examples(support.inputs[:, kept], support.targets[:, kept])
        if always is not None and always.targets.numel():
            seen = joined(seen, always)
        with torch.no_grad():
            thetas.append(strategy.adapt(seen, ways))
            logits[asked[-1]] = strategy.predict(thetas[-1], support.inputs[:, asked[-1]])[
                0
            ].float()
    return HeldOut(thetas, asked, logits)


def joined(some: Examples, more: Examples) -> Examples:
    """The examples of both, of the same tasks."""
    return Examples(
        torch.cat([some.inputs, more.inputs], dim=1),
        torch.cat([some.targets, more.targets], dim=1),
    )


def _folds(targets: Tensor, ways: int, folds: int, seed: int, kept_alive: set[int]) -> Tensor:
    """The fold ``[N]`` of each example; -1 for one without which its class would have none."""
    generator = torch.Generator().manual_seed(seed)
    fold_of = torch.full(targets.shape, -1)
    sizes = torch.bincount(targets.cpu(), minlength=ways)
    folds = max(1, min(folds, int(sizes.max())))
    first = 0  # of a class: small classes do not all begin with the same fold
    for label in range(ways):
        members = (targets.cpu() == label).nonzero()[:, 0]
        if len(members) > 1 or label in kept_alive:
            order = torch.randperm(len(members), generator=generator)
            fold_of[members[order]] = (first + torch.arange(len(members))) % folds
            first += len(members) % folds
    return fold_of.to(targets.device)
