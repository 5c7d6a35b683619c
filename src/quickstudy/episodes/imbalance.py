"""Tasks whose queries are not spread evenly over the classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS_A_CLASS = 2
"""Uniform numbers that make a class's share: α of the Dirichlet distribution."""


def dirichlet_shares(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of a Dirichlet distribution whose parameters all are α = 2.

    Its shares are independent Gamma(2) numbers over their sum, and a Gamma(2) number is the sum of
    two exponential ones, −log u − log v. So each is a plain function of the numbers given.

    Args:
        uniform: ``[T, ways, 2]`` independent numbers in [0, 1).

    Returns:
        ``[T, ways]``, positive, each row summing to 1.
    """
    # 1 − u is in (0, 1]; a class of two ones would have no share at all.
    gamma = np.maximum(-np.log1p(-uniform).sum(-1), 1e-30)
    shares: NDArray[np.float64] = gamma / gamma.sum(1, keepdims=True)
    return shares


def apportioned(
    shares: NDArray[np.float64], total: int, room: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Whole numbers near ``shares`` × ``total`` that sum to ``total``, by largest remainders.

    A class gets no more than its room; what it cannot hold falls to the others, by their shares.

    Args:
        shares: ``[T, ways]``, positive.
        total: of each row.
        room: ``[T, ways]``, each row at least ``total`` in all.

    Returns:
        ``[T, ways]``.
    """
    counts = np.zeros(shares.shape, np.int64)
    # A round that leaves something has filled a class, so there are no more rounds than classes.
    for _ in range(shares.shape[1]):
        left = total - counts.sum(1, keepdims=True)
        if not left.any():
            break
        among = np.where(counts < room, shares, 0.0)
        exact = left * among / np.maximum(among.sum(1, keepdims=True), 1e-300)
        whole = exact.astype(np.int64)
        missing = left - whole.sum(1, keepdims=True)
        # The rank of each remainder in its row; those of full classes, which are zero, come last.
        order = np.argsort(np.where(among > 0, whole - exact, 1.0), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1, kind="stable")
        counts = np.minimum(counts + whole + (ranks < missing), room)
    return counts
