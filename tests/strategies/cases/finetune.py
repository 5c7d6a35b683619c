"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import WAYS, Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "NearestNeighbor": {
        "raw inputs": Case(lambda: package.NearestNeighbor()),
        "euclidean": Case(lambda: package.NearestNeighbor(encoder())),
        "cosine": Case(lambda: package.NearestNeighbor(encoder(), "cosine")),
    },
    # Baselines that learn from ordinary batches: `classes` are those of the batch in these tests.
    "Baseline": {
        "usual": Case(lambda: package.Baseline(encoder(), WAYS)),
        "few steps": Case(
            lambda: package.Baseline(encoder(), WAYS, head_steps=3, head_learning_rate=0.1)
        ),
    },
    "BaselinePlusPlus": {
        "usual": Case(lambda: package.BaselinePlusPlus(encoder(), WAYS)),
        "few steps": Case(
            lambda: package.BaselinePlusPlus(encoder(), WAYS, scale=3.0, head_steps=3)
        ),
    },
    "FineTuning": {
        f"{depth}, from {start}": Case(
            lambda depth=depth, start=start: package.FineTuning(
                encoder(), WAYS, depth, start, inner_steps=3
            )
        )
        for depth in ("all", "head")
        for start in ("prototypes", "zeros")
    },
    "LogisticRegression": {
        "usual": Case(lambda: package.LogisticRegression(encoder(), WAYS)),
        "features as they are": Case(
            lambda: package.LogisticRegression(encoder(), WAYS, penalty=0.1, normalize=False)
        ),
    },
}
