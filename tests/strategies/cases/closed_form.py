"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "R2D2": {
        "usual": Case(lambda: package.R2D2(encoder())),
        "small penalty": Case(lambda: package.R2D2(encoder(), penalty=0.01, scale=2.0)),
    },
    "LRD2": {
        "usual": Case(lambda: package.LRD2(encoder())),
        "one step": Case(lambda: package.LRD2(encoder(), newton_steps=1, penalty=0.1)),
    },
    "MetaOptNet": {
        "usual": Case(lambda: package.MetaOptNet(encoder())),
        "loose": Case(lambda: package.MetaOptNet(encoder(), regularization=1.0, scale=3.0)),
    },
}
