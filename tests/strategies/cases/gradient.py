"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import WAYS, Case, encoder

# The exception: MAML starts every task from one linear layer with an output for each class, and a
# start whose outputs differ treats classes differently, as the paper's does.
MAML_HEAD = ("head.weight", "head.bias")

CASES: dict[str, dict[str, Case]] = {
    "MAML": {
        "inductive": Case(lambda: package.MAML(encoder(), ways=WAYS), MAML_HEAD),
        "transductive": Case(
            lambda: package.MAML(encoder(), ways=WAYS, transductive=True), MAML_HEAD
        ),
        "first order, learned rates": Case(
            lambda: package.MAML(
                encoder(),
                ways=WAYS,
                inner_steps=3,
                inner_learning_rate=0.1,
                learn_inner_rates=True,
                first_order=True,
            ),
            MAML_HEAD,
        ),
        "more steps in use": Case(
            lambda: package.MAML(encoder(), ways=WAYS, test_inner_steps=3), MAML_HEAD
        ),
    },
}
