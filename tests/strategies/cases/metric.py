"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "PrototypicalNetwork": {
        "euclidean": Case(lambda: package.PrototypicalNetwork(encoder())),
        "cosine": Case(lambda: package.PrototypicalNetwork(encoder(), "cosine", scale=10.0)),
    },
}
