"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import WAYS, Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "BDCSPN": {
        "usual": Case(lambda: package.BDCSPN(encoder(), WAYS)),
        "one query a class": Case(lambda: package.BDCSPN(encoder(), WAYS, confident=1)),
    },
    "LaplacianShot": {
        "usual": Case(lambda: package.LaplacianShot(encoder(), WAYS)),
        "from the support's means": Case(
            lambda: package.LaplacianShot(encoder(), WAYS, neighbors=2, rectify=False)
        ),
    },
    "PTMAP": {
        "usual": Case(lambda: package.PTMAP(encoder(), WAYS)),
        "few steps": Case(
            lambda: package.PTMAP(encoder(), WAYS, power=1.0, sharpness=3.0, steps=2)
        ),
    },
    "TIM": {
        "usual": Case(lambda: package.TIM(encoder(), WAYS)),
        "few steps": Case(
            lambda: package.TIM(encoder(), WAYS, steps=3, support_weight=1.0, temperature=5.0)
        ),
    },
    # With steps so large that the queries are felt within a few.
    "TransductiveFineTuning": {
        depth: Case(
            lambda depth=depth: package.TransductiveFineTuning(
                encoder(), WAYS, depth, inner_steps=4, inner_learning_rate=0.02
            )
        )
        for depth in ("all", "head")
    },
}
