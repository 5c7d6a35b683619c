"""How to make the strategies of this family."""

import quickstudy.strategies as package
from quickstudy.encoders import MLP

from .case import SHAPE, Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "AttentiveNeuralProcess": {
        "latent": Case(lambda: package.AttentiveNeuralProcess(encoder(), width=8, heads=2)),
        "deterministic, one layer": Case(
            lambda: package.AttentiveNeuralProcess(
                encoder(), latent=False, width=6, heads=3, layers=1, decoder_layers=2
            )
        ),
    },
    # The encoder also learns here: what is frozen has tests of its own in test_cnaps.py.
    "CNAPS": {"usual": Case(lambda: package.CNAPS(encoder(), width=8))},
    "ConditionalNeuralProcess": {
        "usual": Case(lambda: package.ConditionalNeuralProcess(encoder(), width=16)),
        "few layers": Case(
            lambda: package.ConditionalNeuralProcess(encoder(), width=8, layers=1, decoder_layers=2)
        ),
    },
    "Hypernetwork": {
        f"{kind}{', modulating' if modulate else ''}": Case(
            lambda kind=kind, modulate=modulate: package.Hypernetwork(
                encoder(), kind, ("linear", "nearest", "mlp"), modulate=modulate, width=8
            )
        )
        for kind in ("cnn", "rnn", "transformer")
        for modulate in (False, True)
    },
    "InContextLearner": {
        f"{max_ways} ways at most": Case(
            lambda max_ways=max_ways: package.InContextLearner(
                encoder(), max_ways=max_ways, width=8, layers=2, heads=2
            )
        )
        for max_ways in (3, 20)
    },
    "Portfolio": {
        "usual": Case(lambda: package.Portfolio(encoder(), width=8)),
        "rnn": Case(lambda: package.Portfolio(encoder(), strategy_network="rnn", width=8)),
        **{
            name: Case(lambda name=name: package.Portfolio(encoder(), (name,), width=8))
            for name in ("prototypes", "ridge", "neighbors", "gradient")
        },
    },
    "LEO": {
        "frozen encoder": Case(lambda: package.LEO(encoder(), latent=6), frozen=("encoder.",)),
        "learned encoder, fewer steps": Case(
            lambda: package.LEO(encoder(), latent=6, inner_steps=2, tuning_steps=1, frozen=False)
        ),
    },
    "VERSA": {
        "as many samples in use": Case(lambda: package.VERSA(encoder(), width=8)),
        "more samples in use": Case(
            lambda: package.VERSA(encoder(), samples=3, test_samples=7, seed=1)
        ),
        "mean weights": Case(lambda: package.VERSA(encoder(), samples=0)),
    },
    "WholeHypernetwork": {
        **{
            kind: Case(lambda kind=kind: package.WholeHypernetwork(encoder(), None, kind, width=8))
            for kind in ("cnn", "rnn", "transformer")
        },
        "another learner": Case(
            lambda: package.WholeHypernetwork(encoder(), MLP(SHAPE, (5, 4)), width=8)
        ),
    },
}
