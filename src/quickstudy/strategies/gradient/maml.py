"""Model-agnostic meta-learning (Finn, Abbeel, Levine, 2017)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from quickstudy.encoders.encoder import feature_size
from quickstudy.encoders.normalization import (
    recorded_statistics,
    task_batch_norms,
    use_task_batch_norm,
)
from quickstudy.episodes import Episode, Examples
from quickstudy.strategies.functional import map_tasks
from quickstudy.strategies.gradient.inner_loop import descend
from quickstudy.strategies.strategy import Strategy, Theta


class MAML(Strategy):
    """θ is reached from a learned start by a few gradient steps on the support.

        θ_0 = φ,   θ_{s+1} = θ_s − α ∇ L(support; θ_s),   φ ← φ − η ∇_φ Σ_tasks L(query; θ_S)

    Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
    2017, algorithm 2; with ``first_order``, ∇_φ takes the inner gradients for constants (section
    5.2).

    Batch normalisation: the paper normalises the queries of a task by their own joint statistics,
    so predictions depend on the other queries (``transductive=True``). By default queries are
    normalised by the statistics of the support, which belong to θ.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. Its
            batch normalisation layers are replaced by ``TaskBatchNorm``.
        ways: classes in a task; the start has a linear output for each.
        inner_steps: gradient steps S in meta-training.
        test_inner_steps: gradient steps in use; as many as in training by default.
        inner_learning_rate: the step size α.
        learn_inner_rates: learn an α for each parameter tensor, starting at
            ``inner_learning_rate``.
        first_order: leave out second derivatives.
        recompute: hold no inner step in memory; compute each again on the way back. For deep inner
            loops.
        transductive: normalise queries by their own batch, as the paper's experiments do.
    """

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        test_inner_steps: int | None = None,
        inner_learning_rate: float = 0.4,
        learn_inner_rates: bool = False,
        first_order: bool = False,
        recompute: bool = False,
        transductive: bool = False,
    ) -> None:
        super().__init__()
        if inner_steps < 0 or (test_inner_steps or 0) < 0:
            raise ValueError(
                f"inner_steps is {inner_steps} and test_inner_steps {test_inner_steps}; neither "
                "may be negative."
            )
        self.ways: int = ways
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.inner_learning_rate = inner_learning_rate
        self.learn_inner_rates = learn_inner_rates
        self.first_order = first_order
        self.recompute = recompute
        self.transductive = transductive
        head = nn.Linear(feature_size(encoder), ways)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        self.encoder = use_task_batch_norm(encoder)
        self.head = head
        self._norms = list(task_batch_norms(self.encoder).values())
        rates = torch.full((len(self._start()),), inner_learning_rate)
        self.rates = nn.Parameter(rates) if learn_inner_rates else None

    def _start(self) -> dict[str, Tensor]:
        """θ_0: the parameters that adapt, by name; frozen ones do not."""
        return {n: p for n, p in self._network().named_parameters() if p.requires_grad}

    def _network(self) -> nn.Sequential:
        return nn.Sequential(OrderedDict(encoder=self.encoder, head=self.head))

    def _logits(self, theta: Theta, inputs: Tensor, *, batch_statistics: bool) -> Tensor:
        for layer in self._norms:
            layer.training = batch_statistics
        logits: Tensor = functional_call(self._network(), theta, (inputs,))
        return logits

    def _support_loss(self, theta: Theta, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(theta, inputs, batch_statistics=True), targets)

    def _descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        """θ of one task, from its support ``[N, *shape]`` and ``[N]``."""
        start = self._start()
        rates = self.rates if self.rates is not None else [self.inner_learning_rate] * len(start)
        steps = self.inner_steps
        if not self.training and self.test_inner_steps is not None:
            steps = self.test_inner_steps
        theta = descend(
            lambda theta: self._support_loss(theta, inputs, targets),
            start,
            rates,
            steps,
            first_order=self.first_order,
            recompute=self.recompute,
        )
        if not self.transductive:
            with recorded_statistics(self._network()) as statistics:
                self._logits(theta, inputs, batch_statistics=True)
            theta |= statistics
        return theta

    def adapt(self, support: Examples, ways: int) -> Theta:
        self.check_ways(ways)
        theta: Theta = map_tasks(
            self._descend, support.inputs, support.targets, at_once=not self.recompute
        )
        return theta

    def _predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        """Logits ``[Q, ways]`` of one task's ``[Q, *shape]``."""
        return self._logits(theta, inputs, batch_statistics=self.transductive)

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        logits: Tensor = map_tasks(self._predict, theta, inputs, at_once=not self.recompute)
        return logits

    def forward(self, episode: Episode) -> Tensor:
        """Adapts and predicts task by task, so that no θ but one is ever held."""
        self.check_ways(episode.ways)
        support, query = episode.support, episode.query
        logits: Tensor = map_tasks(
            lambda inputs, targets, x: self._predict(self._descend(inputs, targets), x),
            support.inputs,
            support.targets,
            query.inputs,
            at_once=not self.recompute,
        )
        return logits
