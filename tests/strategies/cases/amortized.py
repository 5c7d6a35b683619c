"""How to make the strategies of this family."""

import quickstudy.strategies as package

from .case import Case, encoder

CASES: dict[str, dict[str, Case]] = {
    "Hypernetwork": {
        f"{kind}{', modulating' if modulate else ''}": Case(
            lambda kind=kind, modulate=modulate: package.Hypernetwork(
                encoder(), kind, ("linear", "nearest", "mlp"), modulate=modulate, width=8
            )
        )
        for kind in ("cnn", "rnn", "transformer")
        for modulate in (False, True)
    },
}
