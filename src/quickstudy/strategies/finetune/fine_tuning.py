"""Fine-tuning of a pretrained network on each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quickstudy.compute.encoding import Encoded
from quickstudy.compute.evaluation_mode import evaluating
from quickstudy.encoders.normalization import transformed
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.inner_loop import descend
from quickstudy.strategies.bases.pretrained import PretrainedStrategy
from quickstudy.strategies.foreign import is_known, running, writes_inputs
from quickstudy.strategies.functional import (
    call_with,
    class_means,
    map_tasks,
    similarity,
    task_loss,
)
from quickstudy.strategies.solvers import check_positive, linear
from quickstudy.strategies.strategy import Strategy, Theta

Depth = Literal["all", "head"]
Start = Literal["prototypes", "zeros"]
HEAD = ("head.weight", "head.bias")


class FineTuning(PretrainedStrategy):
    """A copy of a pretrained network is trained further by gradient descent on the support.

        θ_0 = (pretrained weights, new linear head),   θ_{s+1} = θ_s − α ∇ L(support; θ_s)

    The fine-tuning baseline of Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for
    Learning to Learn from Few Examples", ICLR 2020, section 3 ("finetune baseline"), and of Chen,
    Liu, Kira, Wang, Huang, "A Closer Look at Few-shot Classification", ICLR 2019. Each step is on
    the whole support, and nothing is learned from what comes out: there is no meta-gradient.

    A head that starts at the prototypes gives each class −|f(x) − c_k|² / s less what all classes
    share: W_k = 2 c_k / s, b_k = −|c_k|² / s. s is the mean squared distance between support
    features, so that the first steps do not depend on how long features are.

    Batch normalisation uses the running averages of pretraining throughout; its scale and shift are
    weights like others.

    Args:
        depth: "all" tunes all weights, "head" the linear head alone, on features that stay.
        start: where the head starts, "prototypes" or "zeros".
        inner_steps: gradient steps on a task.
        inner_learning_rate: the step size α.
    """

    paper = "Triantafillou et al., 2020"
    _writes: bool | None = (
        None  # whether the encoder changes its inputs; None until it has been tried
    )

    def __init__(
        self,
        encoder: nn.Module,
        classes: int | None = None,
        depth: Depth = "all",
        start: Start = "prototypes",
        inner_steps: int = 20,
        inner_learning_rate: float = 0.01,
    ) -> None:
        super().__init__(encoder, classes)
        if depth not in get_args(Depth):
            raise InputError(f"The depth {depth!r} is unknown; choose all or head.")
        if start not in get_args(Start):
            raise InputError(f"The start {start!r} is unknown; choose prototypes or zeros.")
        if inner_steps < 0:
            raise InputError(f"inner_steps is {inner_steps}; it must not be negative.")
        check_positive(type(self).__name__, inner_learning_rate=inner_learning_rate)
        self.depth = depth
        self.start = start
        self.inner_steps = inner_steps
        self.inner_learning_rate = inner_learning_rate

    def adapt(self, support: Examples, ways: int) -> Theta:
        if self.depth == "head":
            return super().adapt(support, ways)
        with evaluating(self):
            with torch.no_grad():
                features = self.encode(support.inputs, {})
            head = self.first_head(Examples(features, support.targets), ways)
            theta: Theta = self.map_tasks(self.tune, head, support.inputs, support.targets)
        return theta

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        if self.depth == "head":
            return super().predict(theta, inputs)
        with evaluating(self):
            outputs: Tensor = self.map_tasks(self.outputs, theta, inputs)
        return outputs

    def forward(self, episode: Episode, features: Tensor | None = None) -> Tensor:
        """Adapts and predicts; without support, the logits of the training classes."""
        if episode.support.targets.shape[1]:
            return Strategy.forward(self, episode)
        return super().forward(episode, features)

    # -- all weights, one task -----------------------------------------------------------------

    def tune(self, head: Theta, inputs: Tensor, targets: Tensor) -> Theta:
        """θ of one task, from its support ``[N, *shape]`` and ``[N]``."""
        weights = {f"encoder.{n}": p.detach() for n, p in self.encoder.named_parameters()}
        return self.descend(
            lambda theta: task_loss(self.outputs(theta, inputs), targets), weights | head
        )

    def map_tasks(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of one task, such as :meth:`tune`, of all tasks."""
        with running(self, self.encoder, function, *arguments) as at_once:
            return map_tasks(function, *arguments, at_once=at_once)

    def outputs(self, theta: Theta, inputs: Tensor) -> Tensor:
        """Logits ``[Q, ways]`` of one task's inputs ``[Q, *shape]``."""
        network = Encoded(self.encoder)
        weights = {name: each for name, each in theta.items() if name not in HEAD}
        if self._writes is None and not transformed():
            self._writes = not is_known(self.encoder) and writes_inputs(network, weights, inputs)
        given = inputs.clone() if self._writes else inputs
        features: Tensor = call_with(network, weights, given)
        return F.linear(self.read(features), *(theta[name] for name in HEAD))

    # -- the head, all tasks at once -----------------------------------------------------------

    def adapt_features(self, support: Examples, ways: int) -> Theta:
        features, targets = support.inputs.detach(), support.targets
        return self.descend(
            # Tasks do not meet in the sum, so each has the gradient of its own mean.
            lambda theta: (
                features.shape[0] * task_loss(self.predict_features(theta, features), targets)
            ),
            self.first_head(Examples(features, targets), ways),
        )

    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        weight, bias = (theta[name] for name in HEAD)
        return linear(self.read(features), weight, bias)

    # -- what both share -----------------------------------------------------------------------

    def read(self, features: Tensor) -> Tensor:
        """What the head sees of features ``[..., D]``."""
        return features

    def first_head(self, support: Examples, ways: int) -> Theta:
        """The head that descent begins with: weight ``[T, ways, D]``, bias ``[T, ways]``."""
        features = support.inputs
        prototypes = class_means(features, support.targets, ways)
        if self.start == "zeros":
            zeros = torch.zeros_like(prototypes)
            return {HEAD[0]: zeros, HEAD[1]: zeros[..., 0]}
        spread = -similarity(features, features, "euclidean").mean((1, 2)).clamp(max=-1e-12)
        return {
            HEAD[0]: 2 * prototypes / spread[:, None, None],
            HEAD[1]: -prototypes.square().sum(-1) / spread[:, None],
        }

    def descend(self, loss: Callable[[Theta], Tensor], theta: Theta) -> Theta:
        """θ after all steps on ``loss``."""
        rate = self.inner_learning_rate
        return descend(
            lambda theta, step: loss(theta),
            theta,
            lambda theta, slope, step, learned: {n: theta[n] - rate * slope[n] for n in theta},
            self.inner_steps,
            first_order=True,
        )
