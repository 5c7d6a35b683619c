"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import WAYS, Case, encoder

# The exception: both read labels by their number and have an output for each class, as in their
# papers, and weights that differ between classes treat them differently.
MANN_CLASSES = ("gates_of_labels.weight", "output.weight", "output.bias")
SNAIL_CLASSES = ("labels.weight", "output.weight", "output.bias")

# The exception of MAML: every task starts from one linear layer with an output for each class.
START_HEAD = ("head.weight", "head.bias")

CASES: dict[str, dict[str, Case]] = {
    "LearnedOptimizer": {
        "inductive": Case(lambda: package.LearnedOptimizer(encoder(), WAYS), START_HEAD),
        "one layer, transductive, more steps in use": Case(
            lambda: package.LearnedOptimizer(
                encoder(),
                WAYS,
                inner_steps=2,
                test_inner_steps=4,
                hidden=5,
                layers=1,
                transductive=True,
            ),
            START_HEAD,
        ),
    },
    "MANN": {
        "one head": Case(
            lambda: package.MANN(encoder(), WAYS, hidden=8, slots=9, slot_size=5, reads=1),
            MANN_CLASSES,
        ),
        "three heads, few slots": Case(
            lambda: package.MANN(
                encoder(), WAYS, hidden=8, slots=7, slot_size=5, reads=3, sharpness=10.0
            ),
            MANN_CLASSES,
        ),
    },
    "MetaLSTM": {
        "inductive": Case(lambda: package.MetaLSTM(encoder(), WAYS), START_HEAD),
        "transductive, more steps in use": Case(
            lambda: package.MetaLSTM(
                encoder(), WAYS, inner_steps=3, test_inner_steps=5, hidden=5, transductive=True
            ),
            START_HEAD,
        ),
    },
    "SNAIL": {
        # As many examples as the tests' support has: what is farther away would be no use.
        "usual": Case(lambda: package.SNAIL(encoder(), WAYS, longest=6, filters=16), SNAIL_CLASSES),
    },
}
