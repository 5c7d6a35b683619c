"""What a learner says of its own examples when it has not seen them."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.episodes import Examples
from quickstudy.strategies import Strategy


def held_out_logits(
    strategy: Strategy,
    support: Examples,
    ways: int,
    folds: int = 5,
    seed: int = 0,
    always: Examples | None = None,
) -> Tensor:
    """Logits of each support example from a learner that did not see it.

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

    Returns:
        ``[N, K]``; a row of NaN for an example that is alone in its class.
    """
    targets = support.targets[0]
    kept_alive = set() if always is None else {*always.targets[0].tolist()}
    fold_of = _folds(targets, ways, folds, seed, kept_alive)
    logits = support.inputs.new_full((len(targets), ways), torch.nan, dtype=torch.float32)
    for fold in range(int(fold_of.max()) + 1):
        inside = fold_of == fold
        kept, asked = (~inside).nonzero()[:, 0], inside.nonzero()[:, 0]
        seen = Examples(support.inputs[:, kept], support.targets[:, kept])
        if always is not None:
            seen = joined(seen, always)
        with torch.no_grad():
            theta = strategy.adapt(seen, ways)
            logits[asked] = strategy.predict(theta, support.inputs[:, asked])[0].float()
    return logits


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
