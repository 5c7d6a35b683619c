"""A network that chooses and mixes learning algorithms from what it reads in the support."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quickstudy.encoders.encoder import feature_size
from quickstudy.episodes import Examples
from quickstudy.errors import InputError
from quickstudy.strategies.amortized.learners import MEMBERS, MemberName, mixture, under
from quickstudy.strategies.bases.set_networks import SetNetwork, StrategyNetwork
from quickstudy.strategies.functional import mean_feature, root_mean_square
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

LEAST_SCORE = -5.0
"""A log-likelihood further below guessing tells no more, but would drown the rest."""


class Portfolio(EmbeddingStrategy):
    """A network reads the support and decides which learning algorithms to use, and how.

        g = F(S; φ)                                      a code of the support S
        λ_m = exp(A_m [g, log ways, log shots])          settings of algorithm m
        θ_m = algorithm m(S; λ_m),   u_m = how well m does on S when it may not see the answer
        π = softmax(B [g, .., u]),   r_m = exp(C_m [g, .., u])      shares and sharpness
        p(y | x) = Σ_m π_m softmax(r_m logits_m(f(x); θ_m))_y

    and all of φ learns from the likelihood of the mixture. u are the mean log-likelihood (above
    guessing) and the accuracy of each algorithm on every example of S, left out of what the
    algorithm learns from: in closed form for prototypes, ridge regression and neighbours, nothing
    (0) for the others and where no class has two examples. Features are moved and scaled so that
    the support's mean is 0 and its mean squared length 1.

    After Rice, "The Algorithm Selection Problem", Advances in Computers, 1976, with shares in place
    of a choice, and Wolpert, "Stacked generalization", Neural Networks, 1992, with shares that
    depend on the task.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``.
        members: the algorithms: "prototypes", "ridge" (regression), "neighbors" (a soft vote) and
            "gradient" (a linear classifier after a few steps from the prototypes). A single one
            is that algorithm with settings for each task.
        strategy_network: "cnn", "rnn" or "transformer".
        width: width of the strategy network.
        layers: number of layers of the strategy network.
    """

    paper = "after Rice, 1976, and Wolpert, 1992"

    def __init__(
        self,
        encoder: nn.Module,
        members: Sequence[MemberName] = ("prototypes", "ridge", "neighbors", "gradient"),
        strategy_network: StrategyNetwork = "transformer",
        width: int = 64,
        layers: int = 1,
    ) -> None:
        super().__init__(encoder)
        unknown = [name for name in members if name not in MEMBERS]
        if unknown or not members or len(set(members)) < len(members):
            raise InputError(
                f"The members {list(members)} cannot be a portfolio; name one or more of "
                f"{', '.join(MEMBERS)}, each once."
            )
        self.members = tuple(members)
        self.strategy_network = strategy_network
        self.width = width
        self.layers = layers
        self.reader = SetNetwork(strategy_network, feature_size(encoder), width, layers)
        usual = {
            (name, setting): value
            for name in self.members
            for setting, value in MEMBERS[name].settings.items()
        }
        self.names = list(usual)
        known = width + 2
        scores = 2 * len(self.members) + 1
        self.settings = nn.Linear(known, len(usual))
        self.sharpness = nn.Linear(known + scores, len(self.members))
        for layer in (self.settings, self.sharpness):  # begin with the usual settings
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.settings.bias.copy_(torch.tensor([math.log(value) for value in usual.values()]))
        if len(self.members) > 1:
            # Shares do not change by what all members have in common: no bias.
            self.shares = nn.Linear(known + scores, len(self.members), bias=False)
            nn.init.zeros_(self.shares.weight)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        centre = mean_feature(support.inputs)
        length = root_mean_square(support.inputs, centre)
        support = Examples((support.inputs - centre) / length, support.targets)
        dtype = support.inputs.dtype
        _, task = self.reader(support.inputs, support.targets, ways)
        shots = support.targets.shape[1] / ways
        sizes = task.new_tensor([math.log(ways), math.log(shots)]).expand(support.tasks, -1)
        known = torch.cat([task, sizes], dim=-1)
        emitted = self.settings(known).to(dtype).exp()
        settings: dict[str, Theta] = {name: {} for name in self.members}
        for number, (name, setting) in enumerate(self.names):
            settings[name][setting] = emitted[:, number, None, None]
        scores = self.scores(support, ways, settings)
        known = torch.cat([known, scores.to(known)], dim=-1)
        theta = {"centre": centre, "length": length}
        theta["sharpness"] = self.sharpness(known).to(dtype).exp()
        if len(self.members) > 1:
            theta["log_shares"] = self.shares(known).to(dtype).log_softmax(-1)
        for name in self.members:
            learned = MEMBERS[name].learn(support, ways, settings[name])
            theta |= under(name, learned)
        return theta

    @torch.no_grad()  # What is observed of the members; they learn from the mixture alone.
    def scores(self, support: Examples, ways: int, settings: dict[str, Theta]) -> Tensor:
        """u, ``[T, 2 members + 1]``; the last tells the share of examples that were left out."""
        counts = torch.nn.functional.one_hot(support.targets, ways).sum(1)  # [T, ways]
        tried = (counts.gather(1, support.targets) > 1).to(support.inputs.dtype)
        found = [tried.mean(1)]
        for name in self.members:
            logits = MEMBERS[name].left_out(support, ways, settings[name])
            if logits is None:
                found += [torch.zeros_like(found[0])] * 2
                continue
            right = (logits.argmax(-1) == support.targets).to(tried)
            likelihood = logits.log_softmax(-1).gather(2, support.targets[:, :, None])[:, :, 0]
            above = (likelihood + math.log(ways)).clamp(min=LEAST_SCORE)
            found += [(tried * each).sum(1) / tried.sum(1).clamp(min=1) for each in (above, right)]
        return torch.stack(found, dim=-1)

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        features = (features - theta["centre"]) / theta["length"]
        return mixture(theta, {name: MEMBERS[name] for name in self.members}, features)
