"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import WAYS, Case, encoder

# The exception: MAML starts every task from one linear layer with an output for each class, and a
# start whose outputs differ treats classes differently, as the paper's does.
MAML_HEAD = ("head.weight", "head.bias")

# The same of what learns more than a start for each number of the head.
META_SGD_HEAD = (*MAML_HEAD, "rates.6", "rates.7")

# And what learns a matrix of the head's outputs beside a start for each.
CURVATURE_HEAD = (*MAML_HEAD, "curvature.head_weight_out", "curvature.head_bias_out")
T_NET_HEAD = (*MAML_HEAD, "transformations.head")

CASES: dict[str, dict[str, Case]] = {
    "ANIL": {
        "inductive": Case(lambda: package.ANIL(encoder(), ways=WAYS), MAML_HEAD),
        "transductive, more steps in use": Case(
            lambda: package.ANIL(encoder(), ways=WAYS, transductive=True, test_inner_steps=9),
            MAML_HEAD,
        ),
        "first order": Case(
            lambda: package.ANIL(encoder(), ways=WAYS, first_order=True), MAML_HEAD
        ),
    },
    "BOIL": {
        "inductive": Case(lambda: package.BOIL(encoder(), ways=WAYS), MAML_HEAD),
        "transductive": Case(
            lambda: package.BOIL(encoder(), ways=WAYS, transductive=True), MAML_HEAD
        ),
        "first order, two steps": Case(
            lambda: package.BOIL(encoder(), ways=WAYS, first_order=True, inner_steps=2),
            MAML_HEAD,
        ),
        "recomputed": Case(lambda: package.BOIL(encoder(), ways=WAYS, recompute=True), MAML_HEAD),
    },
    "FOMAML": {
        "inductive": Case(lambda: package.FOMAML(encoder(), ways=WAYS), MAML_HEAD),
        "transductive, three steps": Case(
            lambda: package.FOMAML(encoder(), ways=WAYS, transductive=True, inner_steps=3),
            MAML_HEAD,
        ),
    },
    "CAVIA": {
        "inductive": Case(lambda: package.CAVIA(encoder(), ways=WAYS, context=7), MAML_HEAD),
        "transductive": Case(
            lambda: package.CAVIA(encoder(), ways=WAYS, context=7, transductive=True), MAML_HEAD
        ),
        "concatenation, one layer, first order": Case(
            lambda: package.CAVIA(
                encoder(),
                ways=WAYS,
                context=7,
                conditioning="concatenation",
                layers=[1],
                first_order=True,
            ),
            MAML_HEAD,
        ),
    },
    "IMAML": {
        "inductive": Case(lambda: package.IMAML(encoder(), ways=WAYS), MAML_HEAD),
        "transductive, more steps in use": Case(
            lambda: package.IMAML(
                encoder(), ways=WAYS, inner_steps=3, test_inner_steps=9, transductive=True
            ),
            MAML_HEAD,
        ),
    },
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
    "MAMLPlusPlus": {
        "all of it": Case(lambda: package.MAMLPlusPlus(encoder(), ways=WAYS), MAML_HEAD),
        "second order, last step's loss, fewer steps in use": Case(
            lambda: package.MAMLPlusPlus(
                encoder(),
                ways=WAYS,
                inner_steps=3,
                test_inner_steps=2,
                multi_step_passes=0,
                first_order_passes=0,
            ),
            MAML_HEAD,
        ),
        "transductive, more steps in use": Case(
            lambda: package.MAMLPlusPlus(
                encoder(),
                ways=WAYS,
                inner_steps=2,
                test_inner_steps=4,
                step_statistics=False,
                transductive=True,
            ),
            MAML_HEAD,
        ),
        "by the support's statistics, nothing else": Case(
            lambda: package.MAMLPlusPlus(
                encoder(),
                ways=WAYS,
                inner_steps=2,
                learn_inner_rates=False,
                step_weights=False,
                step_statistics=False,
            ),
            MAML_HEAD,
        ),
    },
    "MetaSGD": {
        "inductive": Case(lambda: package.MetaSGD(encoder(), ways=WAYS), META_SGD_HEAD),
        "transductive": Case(
            lambda: package.MetaSGD(encoder(), ways=WAYS, transductive=True), META_SGD_HEAD
        ),
        "first order, three steps": Case(
            lambda: package.MetaSGD(encoder(), ways=WAYS, first_order=True, inner_steps=3),
            META_SGD_HEAD,
        ),
    },
    "Reptile": {
        "Adam": Case(lambda: package.Reptile(encoder(), ways=WAYS, inner_batch_size=4), MAML_HEAD),
        "gradient descent, transductive": Case(
            lambda: package.Reptile(
                encoder(),
                ways=WAYS,
                inner_steps=3,
                test_inner_steps=None,
                inner_learning_rate=0.1,
                inner_optimizer="sgd",
                transductive=True,
            ),
            MAML_HEAD,
        ),
    },
    "MetaCurvature": {
        "inductive": Case(lambda: package.MetaCurvature(encoder(), ways=WAYS), CURVATURE_HEAD),
        "transductive, two steps": Case(
            lambda: package.MetaCurvature(encoder(), ways=WAYS, inner_steps=2, transductive=True),
            CURVATURE_HEAD,
        ),
        "first order, recomputed": Case(
            lambda: package.MetaCurvature(
                encoder(), ways=WAYS, inner_steps=2, first_order=True, recompute=True
            ),
            CURVATURE_HEAD,
        ),
    },
    "ProtoMAML": {
        "inductive": Case(lambda: package.ProtoMAML(encoder())),
        "transductive": Case(lambda: package.ProtoMAML(encoder(), transductive=True)),
        "first order, recomputed": Case(
            lambda: package.ProtoMAML(encoder(), first_order=True, recompute=True)
        ),
    },
    "TNet": {
        "inductive": Case(lambda: package.TNet(encoder(), ways=WAYS), T_NET_HEAD),
        "transductive, two steps": Case(
            lambda: package.TNet(encoder(), ways=WAYS, inner_steps=2, transductive=True),
            T_NET_HEAD,
        ),
        "first order": Case(
            lambda: package.TNet(encoder(), ways=WAYS, first_order=True), T_NET_HEAD
        ),
    },
}
