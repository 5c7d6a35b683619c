"""A strategy of one's own, compared with prototypes on the same tasks.

    python examples/write_a_strategy.py [--steps 300]

The strategy: a ridge regression from features to classes, solved in closed form and differentiated
through (Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019).
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quickstudy as qs
from quickstudy.episodes import Examples
from quickstudy.strategies import EmbeddingStrategy, Theta


class RidgeRegression(EmbeddingStrategy):
    """W = Zᵀ(ZZᵀ + λI)⁻¹Y, logits = α f(x) W, with λ and α learned."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.log_penalty = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(()))

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        z, y = support.inputs, F.one_hot(support.targets, ways).to(support.inputs.dtype)
        gram = z @ z.transpose(1, 2) + self.log_penalty.exp() * torch.eye(z.shape[1])
        return {"weight": z.transpose(1, 2) @ torch.linalg.solve(gram, y)}

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        return self.scale * features @ theta["weight"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=500)
    options = parser.parse_args()
    parts = qs.load_dataset("glyphs").split()
    for strategy in (
        RidgeRegression(qs.encoders.Conv4()),
        qs.strategies.PrototypicalNetwork(qs.encoders.Conv4()),
    ):
        run = qs.fit(strategy, parts["train"], parts["validation"], queries=5, steps=options.steps)
        print(qs.evaluate(run, parts["test"], shots=5, episodes=options.episodes))
