"""How to make the strategies of this family."""

from torch import nn

import quickstudy.strategies as package
from quickstudy.encoders import MLP, Conv4

from .case import SHAPE, WAYS, Case, encoder


def wide_encoder() -> nn.Module:
    """Enough channels that no vector is all zeros, as some of the smaller encoder's are."""
    return Conv4(SHAPE, channels=16, blocks=2)


CASES: dict[str, dict[str, Case]] = {
    "FEAT": {
        "one head": Case(lambda: package.FEAT(encoder(), temperature=4.0)),
        "two heads": Case(lambda: package.FEAT(encoder(), heads=2, temperature=4.0, contrast=0.0)),
        "no normalisation": Case(lambda: package.FEAT(encoder(), normalized=False)),
    },
    "FRN": {
        "maps": Case(lambda: package.FRN(encoder())),
        "few rows of many channels": Case(lambda: package.FRN(Conv4(SHAPE, channels=16, blocks=2))),
        "vectors": Case(lambda: package.FRN(MLP(SHAPE, (8, 6)))),
    },
    "MatchingNetwork": {
        "without context": Case(lambda: package.MatchingNetwork(encoder(), scale=10.0)),
        "queries in context": Case(
            lambda: package.MatchingNetwork(encoder(), "query", reads=3, scale=10.0)
        ),
        "full context": Case(
            lambda: package.MatchingNetwork(wide_encoder(), "full", reads=3, scale=10.0)
        ),
    },
    "MetaBaseline": {"cosine": Case(lambda: package.MetaBaseline(encoder()))},
    "PrototypicalNetwork": {
        "euclidean": Case(lambda: package.PrototypicalNetwork(encoder())),
        "cosine": Case(lambda: package.PrototypicalNetwork(encoder(), "cosine", scale=10.0)),
    },
    "RelationNetwork": {
        objective: Case(
            lambda objective=objective: package.RelationNetwork(wide_encoder(), objective=objective)
        )
        for objective in ("squared error", "cross-entropy")
    },
    "SimpleCNAPS": {
        "few examples": Case(lambda: package.SimpleCNAPS(encoder())),
        "many examples": Case(lambda: package.SimpleCNAPS(MLP(SHAPE, (8, 5)))),
    },
    "SimpleShot": {
        transformation: Case(
            lambda transformation=transformation: package.SimpleShot(
                encoder(), classes=WAYS, transformation=transformation
            )
        )
        for transformation in ("UN", "L2N", "CL2N")
    },
}
