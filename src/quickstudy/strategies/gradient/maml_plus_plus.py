"""MAML++ (Antoniou, Edwards, Storkey, 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn

from quickstudy.encoders.task_normalization import recorded_statistics, task_batch_norms
from quickstudy.episodes import Episode
from quickstudy.errors import InputError
from quickstudy.strategies.bases.gradient_strategy import GradientStrategy, InnerLoop
from quickstudy.strategies.bases.inner_loop import gradient
from quickstudy.strategies.functional import task_loss
from quickstudy.strategies.gradient.step_norm import StepNorm
from quickstudy.strategies.strategy import LossAndLogits, Theta


class MAMLPlusPlus(GradientStrategy):
    """MAML with a loss, step sizes and normalisation for each inner step, which train more stably.

        θ_{s+1} = θ_s − α_{s,i} ∇ L(support; θ_s),   loss = Σ_s v_s L(query; θ_s),  s = 1..S

    Antoniou, Edwards, Storkey, "How to train your MAML", ICLR 2019, section 4. Its improvements,
    each with the argument that switches it:

    - multi-step loss (``multi_step_passes``): v_s is 1/S each at the start and moves linearly to
      the last step alone;
    - derivative-order annealing (``first_order_passes``): meta-gradients are first-order at first;
    - per-layer per-step rates (``learn_inner_rates``): an α for each parameter tensor i and step;
    - per-step normalisation weights (``step_weights``): scale and shift of every batch
      normalisation, learned for each step and not moved by the inner loop;
    - per-step running statistics (``step_statistics``): each step has its own running averages,
      which normalise support and query in use, so that predictions are inductive;
    - a cosine schedule of the outer learning rate: see the trainer.

    Differs from the paper: each of θ_0 .. θ_S has its own normalisation, S + 1 in all, and running
    averages are taken over the support alone. The authors' programs normalise by the current batch
    in use too; ``step_statistics=False, transductive=True`` does the same.

    Args:
        inner_steps: gradient steps S in meta-training. In use, steps beyond S have the rates and
            the normalisation of the last.
        inner_learning_rate: the step size that every α starts from.
        multi_step_passes: training passes in which v moves to the last step; 0 for the loss of the
            last step alone.
        first_order_passes: training passes without second derivatives, at the start.
        learn_inner_rates: learn the α.
        step_weights: learn normalisation weights for each step.
        step_statistics: keep running averages for each step; without them queries are normalised
            by the statistics of the support.
        transductive: normalise queries by their own batch; only without ``step_statistics``.
        **inner_loop: the other arguments are those of :class:`GradientStrategy`.
    """

    paper = "Antoniou, Edwards, Storkey, 2019"

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 5,
        inner_learning_rate: float = 0.1,
        multi_step_passes: int = 5000,
        first_order_passes: int = 25000,
        learn_inner_rates: bool = True,
        step_weights: bool = True,
        step_statistics: bool = True,
        **inner_loop: Unpack[InnerLoop],
    ) -> None:
        super().__init__(encoder, ways, inner_steps, inner_learning_rate, **inner_loop)
        if min(multi_step_passes, first_order_passes) < 0:
            raise InputError(
                f"multi_step_passes is {multi_step_passes} and first_order_passes "
                f"{first_order_passes}; neither may be negative."
            )
        if step_statistics and self.transductive:
            raise InputError(
                "Queries cannot be normalised both by running averages and by their own batch: "
                "for transductive predictions set step_statistics to false."
            )
        self.multi_step_passes = multi_step_passes
        self.first_order_passes = first_order_passes
        self.learn_inner_rates = learn_inner_rates
        self.step_weights = step_weights
        self.step_statistics = step_statistics
        norms = task_batch_norms(self.network())
        self._norm_names = list(norms)
        self.step_norms = nn.ModuleList(
            StepNorm(layer, inner_steps, step_weights, step_statistics) for layer in norms.values()
        )
        # What the inner loop moves is known only now: step_weights took their place.
        rates = torch.full((inner_steps, len(self.start())), inner_learning_rate)
        self.rates = nn.Parameter(rates) if learn_inner_rates else None
        self.passes = 0

    def get_extra_state(self) -> Tensor:
        """The training passes so far, which belong to a checkpoint."""
        return torch.tensor(self.passes)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the passes of a checkpoint."""
        self.passes = int(state)

    def learned(self) -> Sequence[Tensor]:
        return () if self.rates is None else (self.rates,)

    def update(self, theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
        table = learned[0] if learned else ()
        rates = tuple(table[min(step, len(table) - 1)]) if len(table) else ()
        return super().update(theta, gradients, step, rates)

    def _step_norms(self) -> Iterator[tuple[str, StepNorm]]:
        for name, norm in zip(self._norm_names, self.step_norms, strict=True):
            assert isinstance(norm, StepNorm)
            yield name, norm

    def of_step(self, step: int) -> Theta:
        """What normalisation after ``step`` inner steps has instead of the encoder's own."""
        return {
            f"{name}.{each}": value
            for name, norm in self._step_norms()
            for each, value in norm.of_step(step).items()
        }

    def inner_loss(self, theta: Theta, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        own_batch = self.training or not self.step_statistics
        outputs = self.outputs(theta | self.of_step(step), inputs, batch_statistics=own_batch)
        return task_loss(outputs, targets)

    def path(self, inputs: Tensor, targets: Tensor) -> Iterator[Theta]:
        """θ_0, θ_1, .. θ_S of one task."""
        theta = self.start()
        yield theta
        for step in range(self.steps):
            loss = partial(self.inner_loss, inputs=inputs, targets=targets, step=step)
            found = gradient(loss, theta, self.first_order)
            theta = self.update(theta, found, step, self.learned())
            yield theta

    def arrived(self, theta: Theta, inputs: Tensor, step: int) -> Theta:
        """θ_s with all that predictions need of its step, given the inputs of the support."""
        theta = theta | self.of_step(step)
        return theta if self.step_statistics else self.with_statistics(theta, inputs)

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        *_, theta = self.path(inputs, targets)
        return self.arrived(theta, inputs, self.steps)

    def solve(
        self, inputs: Tensor, targets: Tensor, queries: Tensor, first: int
    ) -> tuple[Tensor, Theta]:
        """One task: outputs ``[steps, Q, ways]`` after steps ``first`` to S, and statistics."""
        running = self.training and self.step_statistics
        outputs, statistics = [], []
        for step, theta in enumerate(self.path(inputs, targets)):
            if running:
                statistics.append(self.statistics(theta | self.of_step(step), inputs))
            if step >= first:
                theta = self.arrived(theta, inputs, step)
                by_batch = running or self.transductive
                outputs.append(self.outputs(theta, queries, batch_statistics=by_batch))
        names = statistics[0] if statistics else ()
        return torch.stack(outputs), {n: torch.stack([s[n] for s in statistics]) for n in names}

    @torch.no_grad()
    def statistics(self, theta: Theta, inputs: Tensor) -> Theta:
        """The mean and variance that each layer finds in one task's support."""
        with recorded_statistics(self.network()) as statistics:
            self.outputs(theta, inputs, batch_statistics=True)
        return statistics

    def forward(self, episode: Episode, each_step: list[Tensor] | None = None) -> Tensor:
        """Adapts and predicts; puts the outputs of steps 1 to S into ``each_step`` if given."""
        self.check_ways(episode.ways)
        support, query = episode.support, episode.query
        first = self.steps if each_step is None else min(1, self.steps)
        outputs, statistics = self.map_tasks(
            partial(self.solve, first=first), support.inputs, support.targets, query.inputs
        )
        if statistics:
            for name, norm in self._step_norms():
                norm.keep(statistics[f"{name}.mean"], statistics[f"{name}.var"])
        if each_step is not None:
            each_step.extend(outputs.unbind(1))
        final: Tensor = outputs[:, -1]
        return final

    def loss_weights(self) -> list[float]:
        """v_1 .. v_S at this point of the training."""
        moved = min(1.0, self.passes / self.multi_step_passes) if self.multi_step_passes else 1.0
        steps = max(1, self.steps)
        each = (1 - moved) / steps
        return [each] * (steps - 1) + [each + moved]

    def loss(self, episode: Episode) -> LossAndLogits:
        self.first_order = self.passes < self.first_order_passes
        weights = self.loss_weights()
        self.passes += self.training
        if weights[-1] == 1:
            return super().loss(episode)
        outputs: list[Tensor] = []
        logits = self(episode, outputs)
        losses = [task_loss(each, episode.query.targets) for each in outputs]
        loss = torch.stack([v * loss for v, loss in zip(weights, losses, strict=True)]).sum()
        return loss, logits
