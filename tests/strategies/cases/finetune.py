"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "NearestNeighbor": {
        "raw inputs": Case(lambda: package.NearestNeighbor()),
        "euclidean": Case(lambda: package.NearestNeighbor(encoder())),
        "cosine": Case(lambda: package.NearestNeighbor(encoder(), "cosine")),
    },
}
