"""Transductive fine-tuning (Dhillon, Chaudhari, Ravichandran, Soatto, 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.episodes import Examples
from quickstudy.strategies.bases.inner_loop import gradient
from quickstudy.strategies.finetune.fine_tuning import HEAD, Depth, FineTuning
from quickstudy.strategies.functional import (
    class_means,
    in_full_precision,
    task_loss,
)
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

SUPPORT = ("support.inputs", "support.targets")
KEPT = (0.9, 0.999)
"""How much Adam keeps of the mean slope and of the mean square of slopes, a step."""


class TransductiveFineTuning(FineTuning):
    """A pretrained network is fine-tuned to fit the support and to be certain about the queries.

        ŷ = W f(x) / ‖f(x)‖ + b,   W_k = c_k / ‖c_k‖ and b = 0 at first, c_k the mean of class k
        min over θ of  mean cross-entropy of the support + mean entropy of p_θ(· | x) of the queries

    by Adam, on the whole of both sets in each step. Adapting only puts the head in its place; the
    steps are taken where the queries are known.

    Dhillon, Chaudhari, Ravichandran, Soatto, "A Baseline for Few-Shot Image Classification", ICLR
    2020, section 3, equations 6 to 8. What differs: f is the encoder, where the paper puts the new
    head on the rectified logits of the training classes; a step is on all examples, where the paper
    takes batches of them; batch normalisation uses the running averages of pretraining.

    Args:
        depth: "all" tunes all weights, as in the paper, "head" the linear head alone, on features
            that stay, which bears and needs a larger step size.
        inner_steps: steps on a task; the paper's 25 passes.
        inner_learning_rate: Adam's step size; the paper's 0.00005.
    """

    paper = "Dhillon, Chaudhari, Ravichandran, Soatto, 2020"
    transductive = True

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        depth: Depth = "all",
        inner_steps: int = 25,
        inner_learning_rate: float = 5e-5,
    ) -> None:
        super().__init__(
            encoder,
            classes,
            depth,
            inner_steps=inner_steps,
            inner_learning_rate=inner_learning_rate,
        )

    def adapt(self, support: Examples, ways: int) -> Theta:
        if self.depth == "head":
            return EmbeddingStrategy.adapt(self, support, ways)
        with evaluating(self):
            features = Examples(self.encode(support.inputs, {}), support.targets)
        return self.first_head(features, ways) | dict(
            zip(SUPPORT, (support.inputs, support.targets), strict=True)
        )

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        if self.depth == "head":
            return EmbeddingStrategy.predict(self, theta, inputs)
        with evaluating(self):
            outputs: Tensor = self.map_tasks(self.tuned_outputs, theta, inputs)
        return outputs

    def tuned_outputs(self, theta: Theta, inputs: Tensor) -> Tensor:
        """Logits ``[Q, ways]`` of one task's inputs ``[Q, *shape]``, after the steps on them."""
        support, targets = (theta[name] for name in SUPPORT)
        weights = {f"encoder.{n}": p.detach() for n, p in self.encoder.named_parameters()}
        tuned = self.descend(
            lambda now: objective(self.outputs(now, support), targets, self.outputs(now, inputs)),
            weights | {name: theta[name] for name in HEAD},
        )
        return self.outputs(tuned, inputs)

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        features = Examples(support.inputs.detach(), support.targets)
        return self.first_head(features, ways) | dict(
            zip(SUPPORT, (features.inputs, features.targets), strict=True)
        )

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        support, targets = (theta[name] for name in SUPPORT)
        queries = features.detach()
        answer = super().predict_features
        tuned = self.descend(
            # Tasks do not meet in the sum, so each has the gradient of its own mean.
            lambda now: (
                len(queries) * objective(answer(now, support), targets, answer(now, queries))
            ),
            {name: theta[name] for name in HEAD},
        )
        return answer(tuned, queries)

    # -- where the paper's network differs from plain fine-tuning ------------------------------

    def read(self, features: Tensor) -> Tensor:
        return F.normalize(features, dim=-1)

    def first_head(self, support: Examples, ways: int) -> Theta:
        prototypes = class_means(support.inputs, support.targets, ways)
        return {
            HEAD[0]: F.normalize(prototypes, dim=-1),
            HEAD[1]: torch.zeros_like(prototypes[..., 0]),
        }

    def descend(self, loss: Callable[[Theta], Tensor], theta: Theta) -> Theta:
        """θ after all steps of Adam (Kingma, Ba, 2015, algorithm 1) on ``loss``."""
        first, second = KEPT
        means = {name: torch.zeros_like(value) for name, value in theta.items()}
        squares = dict(means)
        for step in range(1, self.inner_steps + 1):
            slope = gradient(loss, theta, first_order=True)
            for name in theta:
                means[name] = first * means[name] + (1 - first) * slope[name]
                squares[name] = second * squares[name] + (1 - second) * slope[name].square()
            rate = self.inner_learning_rate / (1 - first**step)
            spread = 1 - second**step
            theta = {
                name: value - rate * means[name] / ((squares[name] / spread).sqrt() + 1e-8)
                for name, value in theta.items()
            }
        return theta


@in_full_precision
def objective(support_logits: Tensor, targets: Tensor, query_logits: Tensor) -> Tensor:
    """The mean cross-entropy of the support plus the mean entropy of the queries' predictions.

    Args:
        support_logits: ``[..., N, ways]``.
        targets: ``[..., N]``.
        query_logits: ``[..., Q, ways]``.
    """
    log_probabilities = query_logits.log_softmax(-1)
    entropies = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return task_loss(support_logits, targets) + entropies.mean()
