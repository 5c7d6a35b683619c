"""The base of strategies that adapt by gradient steps."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, get_type_hints

from torch import Tensor, nn

from quickstudy.compute.encoding import encoded
from quickstudy.encoders.encoder import feature_size
from quickstudy.encoders.normalization import transformed
from quickstudy.encoders.task_normalization import (
    check_uses,
    recorded_statistics,
    task_batch_norms,
    use_batch_statistics,
    with_task_batch_norm,
)
from quickstudy.episodes import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.strategies.bases.inner_loop import descend
from quickstudy.strategies.foreign import KERNELS, is_known, running, writes_inputs
from quickstudy.strategies.functional import call_with, map_tasks, task_loss
from quickstudy.strategies.strategy import Strategy, Theta


class InnerLoop(TypedDict, total=False):
    """The arguments of :class:`GradientStrategy` that subclasses pass on unchanged."""

    test_inner_steps: int | None
    transductive: bool


class SecondOrderLoop(InnerLoop, total=False):
    """:class:`InnerLoop` of a strategy that can leave out second derivatives."""

    first_order: bool


class RecomputableLoop(SecondOrderLoop, total=False):
    """:class:`SecondOrderLoop` of a strategy that can recompute its inner steps."""

    recompute: bool


def spell_out(constructor: Callable[..., None], of: Callable[..., None]) -> None:
    """Writes arguments that a constructor passes on, ``**some: Unpack[...]``, into its signature.

    The command line, saved descriptions and ``help`` read there which arguments a class takes.

    Args:
        constructor: changed; left as it is if it passes on nothing of this form.
        of: the constructor that gets the arguments, whose types and defaults they have.
    """
    signature = inspect.signature(constructor)
    *own, last = signature.parameters.values()
    if last.kind is not last.VAR_KEYWORD or "Unpack[" not in str(last.annotation):
        return
    (passed,) = get_type_hints(constructor)[last.name].__args__
    known = inspect.signature(of, eval_str=True).parameters
    spelt = [known[name].replace(kind=last.KEYWORD_ONLY) for name in passed.__annotations__]
    constructor.__signature__ = signature.replace(parameters=[*own, *spelt])  # type: ignore[attr-defined]


class _Network(nn.Sequential):
    """An encoder and its head."""

    encoder: nn.Module
    head: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(encoded(self.encoder, x))
        return outputs


class GradientStrategy(Strategy):
    """θ is reached from a learned start by a few steps on the loss of the support.

        θ_0 = start(φ),   θ_{s+1} = update(θ_s, ∇ L(support; θ_s))

    A subclass defines what adapts (:meth:`start`), by which rule (:meth:`update`) and, where its
    paper differs, on which loss (:meth:`inner_loss`). This class has what they share: a linear
    output on an encoder, the loop, and the choice of statistics for batch normalisation.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``; states ``out_features``. Its
            parameters are learned. If it has batch normalisation, the strategy works with a copy of
            its structure whose layers use each task's statistics (``TaskBatchNorm``); the encoder
            keeps its own.
        ways: number of classes in a task (in regression, the length of a target): the linear
            outputs.
        inner_steps: gradient steps S in meta-training.
        inner_learning_rate: the step size α.
        test_inner_steps: gradient steps in use; as many as in training by default.
        first_order: leave out second derivatives.
        recompute: keep no inner step in memory and compute each again in the backward pass; for
            many inner steps.
        transductive: normalise queries by their own batch; by default they are normalised by the
            statistics of the support, which belong to θ.
    """

    regression = True
    _kernels = 0  # of KERNELS, what the network needs in the present mode
    _writes: bool | None = (
        None  # whether the network changes its inputs; None until it has been tried
    )

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__init__" in vars(cls):
            spell_out(cls.__init__, GradientStrategy.__init__)

    def __init__(
        self,
        encoder: nn.Module,
        ways: int = 5,
        inner_steps: int = 1,
        inner_learning_rate: float = 0.4,
        *,
        test_inner_steps: int | None = None,
        first_order: bool = False,
        recompute: bool = False,
        transductive: bool = False,
    ) -> None:
        super().__init__()
        if inner_steps < 0 or (test_inner_steps or 0) < 0:
            raise InputError(
                f"inner_steps is {inner_steps} and test_inner_steps {test_inner_steps}; neither "
                "may be negative."
            )
        self.ways = ways
        self.inner_steps = inner_steps
        self.test_inner_steps = test_inner_steps
        self.inner_learning_rate = inner_learning_rate
        self.first_order = first_order
        self.recompute = recompute
        self.transductive = transductive
        head = nn.Linear(feature_size(encoder), ways)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
        self.encoder = self.lend(encoder, with_task_batch_norm(encoder))
        self.head = head
        self._norms = list(task_batch_norms(self.encoder).values())

    # -- what a method may override -------------------------------------------------------------

    def start(self) -> Theta:
        """θ_0: the parameters that adapt, by their names in :meth:`network`; frozen ones do not."""
        return {n: p for n, p in self.network().named_parameters() if p.requires_grad}

    def begin(self, inputs: Tensor, targets: Tensor) -> Theta:
        """θ_0 of one task; :meth:`start`, unless it depends on the support."""
        return self.start()

    def update(self, theta: Theta, gradients: Theta, step: int, learned: Sequence[Tensor]) -> Theta:
        """θ_{s+1} from θ_s and its gradient; ``learned`` is what :meth:`learned` gave."""
        rates: Sequence[float | Tensor] = learned or [self.inner_learning_rate] * len(theta)
        return {
            name: each - rate * gradients[name]
            for (name, each), rate in zip(theta.items(), rates, strict=True)
        }

    def learned(self) -> Sequence[Tensor]:
        """The parameters that :meth:`update` depends on beside θ: step sizes, unless overridden."""
        return ()

    def inner_loss(self, theta: Theta, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """L(support; θ_s) of one task's ``[N, *shape]`` and ``[N]`` (or ``[N, D]``)."""
        return task_loss(self.outputs(theta, inputs, batch_statistics=True), targets)

    # -- what they share -----------------------------------------------------------------------

    def network(self) -> nn.Module:
        """The network whose parameters θ names: ``encoder``, then ``head``."""
        return _Network(OrderedDict(encoder=self.encoder, head=self.head))

    def outputs(self, theta: Theta, inputs: Tensor, *, batch_statistics: bool) -> Tensor:
        """Outputs ``[N, ways]`` of one task's inputs, normalised by their own batch or by θ."""
        self.use_batch_statistics(batch_statistics)
        network = self.network()
        if self._writes is None and not transformed():
            self._writes = not is_known(self) and writes_inputs(network, theta, inputs)
        with KERNELS[self._kernels]():
            found: Tensor = call_with(network, theta, self._kept(inputs))
        check_uses(self._norms)
        return found

    def features(self, inputs: Tensor, *, batch_statistics: bool) -> Tensor:
        """Vectors ``[N, D]`` of one task's inputs, by the encoder as φ has it."""
        self.use_batch_statistics(batch_statistics)
        return encoded(self.encoder, self._kept(inputs))

    def _kept(self, inputs: Tensor) -> Tensor:
        """Inputs that the network may overwrite; a task's own inputs are read many times."""
        return inputs.clone() if self._writes else inputs

    def use_batch_statistics(self, batch: bool) -> None:
        """Whether the encoder normalises by the batch at hand from now on, or by its buffers."""
        for layer in self._norms:
            use_batch_statistics(layer, batch)

    @property
    def steps(self) -> int:
        """The inner steps of the present mode, training or use."""
        if not self.training and self.test_inner_steps is not None:
            return self.test_inner_steps
        return self.inner_steps

    def descend(self, inputs: Tensor, targets: Tensor) -> Theta:
        """θ of one task, from its support ``[N, *shape]`` and ``[N]``."""
        theta = descend(
            lambda theta, step: self.inner_loss(theta, inputs, targets, step),
            self.begin(inputs, targets),
            self.update,
            self.steps,
            learned=self.learned(),
            first_order=self.first_order,
            recompute=self.recompute,
        )
        return self.with_statistics(theta, inputs)

    def with_statistics(self, theta: Theta, inputs: Tensor) -> Theta:
        """θ with the support's statistics, by which queries are normalised unless transductive."""
        if self.transductive:
            return theta
        with recorded_statistics(self.network()) as statistics:
            self.outputs(theta, inputs, batch_statistics=True)
        return theta | statistics

    def answer(self, theta: Theta, inputs: Tensor) -> Tensor:
        """Outputs ``[Q, ways]`` of one task's queries ``[Q, *shape]``."""
        return self.outputs(theta, inputs, batch_statistics=self.transductive)

    def descend_and_answer(self, inputs: Tensor, targets: Tensor, queries: Tensor) -> Tensor:
        """Outputs ``[Q, ways]`` for one task's queries, given its support."""
        return self.answer(self.descend(inputs, targets), queries)

    def map_tasks(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Applies a function of one task, such as :meth:`descend`, to all tasks."""
        with running(self, self, function, *arguments) as apart:
            return map_tasks(function, *arguments, at_once=apart and not self.recompute)

    def adapt(self, support: Examples, ways: int) -> Theta:
        self.check_ways(ways)
        theta: Theta = self.map_tasks(self.descend, support.inputs, support.targets)
        return theta

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.map_tasks(self.answer, theta, inputs)
        return outputs

    def forward(self, episode: Episode) -> Tensor:
        """Adapts and predicts task by task, so that no θ but one is ever held."""
        self.check_ways(episode.ways)
        support, query = episode.support, episode.query
        outputs: Tensor = self.map_tasks(
            self.descend_and_answer, support.inputs, support.targets, query.inputs
        )
        return outputs
