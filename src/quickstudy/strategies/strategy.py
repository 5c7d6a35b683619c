"""The contract of every learning strategy."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from quickstudy.compute.encoding import check_encoder, encoded_tasks
from quickstudy.counts import Count, whole_range
from quickstudy.deprecated import RenamedAttribute
from quickstudy.encoders.task_normalization import check_keeps_statistics, follow
from quickstudy.episodes import Episode, Examples
from quickstudy.episodes.episode import unchecked_episode
from quickstudy.errors import InputError
from quickstudy.strategies.functional import task_loss

Module = TypeVar("Module", bound=nn.Module)

Theta = dict[str, Tensor]
"""The parameters of the learners of T tasks: tensors whose first axis is the task."""

LossAndLogits = tuple[Tensor, Tensor | None]

ENCODING = frozenset({"condition", "encode", "adapt", "predict"})
"""The methods by which an :class:`EmbeddingStrategy` uses its encoder."""


class LinearHead(NamedTuple):
    """Logits W x + b − s ‖x‖² of vectors x.

    Args:
        weight: W, ``[T, K, D]``.
        bias: b, ``[T, K]``.
        square: s.
        normalize: whether :meth:`Strategy.compared` brings vectors to length 1 first.
    """

    weight: Tensor
    bias: Tensor
    square: float = 0.0
    normalize: bool = False


class Strategy(nn.Module, ABC):
    """F(support; φ) → θ, and the learner f(query; θ).

    φ is ``self.parameters()``. A new strategy says how it adapts and how it predicts; training,
    evaluation and everything else are written against these two.

    Attributes:
        paper: authors and year of what it implements.
        transductive: whether a prediction may depend on the other queries.
        regression: whether it also learns tasks whose targets are numbers ``[T, N, D]``; ``ways``
            is then D.
        episodic: whether it is meta-trained on tasks; else on ordinary batches of all training
            classes, which :meth:`loss` gets as the query of an episode without support.
        fixed_encoder: whether an input's vector is what ``encoder`` makes of it, the same in every
            task, so that it can be computed once and used in many tasks.
        modality: the only modality that it is made for, such as "text", if there is one.
        ways: the only number of classes that the strategy is made for, if there is one.
    """

    paper: ClassVar[str] = ""
    _lent: tuple[tuple[nn.Module, nn.Module], ...] = ()
    transductive: bool = False
    regression: ClassVar[bool] = False
    episodic: ClassVar[bool] = True
    fixed_encoder: ClassVar[bool] = False
    modality: ClassVar[str | None] = None
    ways: int | None = None

    def lend(self, given: nn.Module, own: Module) -> Module:
        """Records that ``own``, which the strategy works with, shares its tensors with ``given``.

        When the strategy is moved or cast, so are the other tensors of ``given``, which can still
        be used on its own.
        """
        if own is not given:
            self._lent = (*self._lent, (given, own))
        return own

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for given, own in self._lent:
            follow(given, own, fn)
        return self

    def check_ways(self, ways: Count) -> None:
        """Refuses tasks of more or fewer classes than the strategy was made for (ValueError)."""
        if self.ways is None or ways == self.ways:
            return
        low, high = whole_range(ways, "ways")
        if low < high:
            raise InputError(
                f"This {type(self).__name__} was made for tasks of {self.ways} ways (one output "
                f"per class) and cannot take tasks of {low} to {high} ways. Use ways={self.ways}, "
                "or a strategy that works with any number, such as PrototypicalNetwork."
            )
        if low != self.ways:
            raise InputError(
                f"This {type(self).__name__} was made for tasks of {self.ways} ways (one output "
                f"per class), but the task has {low} ways. Use tasks of {self.ways} ways, or "
                "create and train another."
            )

    def default_ways(self, trained_ways: Count) -> int:
        """The default number of ways in tests: as in training, but at most 5 if it can vary.

        Of a range in training, the upper end counts.
        """
        return self.ways or min(whole_range(trained_ways, "ways")[1], 5)

    usual_ways = RenamedAttribute("default_ways")

    @abstractmethod
    def adapt(self, support: Examples, ways: int) -> Theta:
        """θ = F(support; φ), for each task by itself.

        Args:
            support: labelled examples, inputs ``[T, N, *shape]``, targets ``[T, N]``.
            ways: the number of classes; targets are 0..ways-1.
        """

    @abstractmethod
    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        """ŷ = f(inputs; θ): logits ``[T, Q, ways]`` of inputs ``[T, Q, *shape]``."""

    def compared(self, vectors: Tensor) -> Tensor:
        """Vectors ``[..., D]`` in the form in which the strategy compares them."""
        return vectors

    def evidence(
        self, theta: Theta, support: Examples, query: Tensor, answer: int
    ) -> Tensor | None:
        """What each support example adds to the logit of one class; None if that is not known.

        Args:
            theta: θ of one task.
            support: its N examples as vectors, inputs ``[1, N, D]``, targets ``[1, N]``.
            query: one vector, ``[1, D]``.
            answer: the class.

        Returns:
            ``[N]``, whose sum is the logit, or None.
        """
        return None

    def linear_head(self, theta: Theta) -> LinearHead | None:
        """The logits as a linear function of the encoder's vectors; None if they are not one."""
        return None

    @property
    def default_temperature(self) -> float:
        """The temperature that calibrates the logits where no example can be held out."""
        return 1.0

    def forward(self, episode: Episode) -> Tensor:
        """Adapts to the support and predicts the query: logits ``[T, Q, ways]``."""
        theta = self.adapt(episode.support, episode.ways)
        return self.predict(theta, episode.query.inputs)

    def loss(self, episode: Episode) -> LossAndLogits:
        """What meta-training minimises, and the logits ``[T, Q, ways]`` that it comes from.

        Unless a paper differs, the loss is the cross-entropy of the query, or its squared error in
        regression, averaged over the tasks. The logits are None where a strategy has none.
        """
        logits = self(episode)
        return task_loss(logits, episode.query.targets), logits


def loss_and_logits(strategy: Strategy, found: object) -> LossAndLogits:
    """What a strategy's ``loss`` returned, as loss and logits.

    Args:
        strategy: of any class.
        found: what its method returned. A loss alone is accepted with a DeprecationWarning.

    Raises:
        InputError: when it is neither.
    """
    if isinstance(found, tuple) and len(found) == 2:
        return found
    name = type(strategy).__name__
    if not isinstance(found, Tensor):
        raise InputError(
            f"{name}.loss returned a {type(found).__name__}; it must return the loss and the "
            "logits, as in `return loss, logits`."
        )
    warnings.warn(
        f"{name}.loss returned the loss alone, which is accepted until version 1.0. Return the "
        "loss and the logits (`return loss, logits`), so that training accuracy is known.",
        DeprecationWarning,
        stacklevel=2,
    )
    return found, None


class EmbeddingStrategy(Strategy):
    """A strategy that works on an encoder's vectors.

    Subclasses implement :meth:`adapt_features` and :meth:`predict_features`. The encoder is the
    same for every task, so that features can be computed once and used in many episodes
    (``fixed_encoder``). A subclass that overrides :meth:`condition`, :meth:`encode`, :meth:`adapt`
    or :meth:`predict` counts as one whose encoder is not, unless it declares ``fixed_encoder``.

    Args:
        encoder: maps inputs ``[B, *shape]`` to vectors ``[B, D]``.

    Attributes:
        frozen: whether the encoder stays as it is, its running averages included.
    """

    fixed_encoder = True
    frozen: bool = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        decides = ("linear_head", "predict_features", "predict")
        first = next(each for each in cls.__mro__ if not vars(each).keys().isdisjoint(decides))
        if "linear_head" not in vars(first):  # it predicts in a way of its own
            cls.linear_head = Strategy.linear_head  # type: ignore[method-assign]
        for each in cls.__mro__:  # the first that declares it or overrides a method decides
            if "fixed_encoder" in vars(each):
                return
            if not ENCODING.isdisjoint(vars(each)):
                cls.fixed_encoder = False
                return

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        check_encoder(encoder, type(self).__name__)
        check_keeps_statistics(encoder, f"The encoder of {type(self).__name__}")
        self.encoder = encoder

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen encoder is always in that of use."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    @abstractmethod
    def adapt_features(self, support: Examples, ways: int) -> Theta:
        """θ from support features, inputs ``[T, N, D]``."""

    @abstractmethod
    def predict_features(self, theta: Theta, features: Tensor) -> Tensor:
        """Logits ``[T, Q, ways]`` of query features ``[T, Q, D]``."""

    def condition(self, support: Examples, ways: int) -> Theta:
        """The part of θ that changes the encoder; none by default."""
        return {}

    def encode(self, inputs: Tensor, theta: Theta) -> Tensor:
        """Vectors ``[T, N, D]`` of inputs ``[T, N, *shape]``."""
        return encoded_tasks(self.encoder, inputs)

    def adapt(self, support: Examples, ways: int) -> Theta:
        theta = self.condition(support, ways)
        features = self.encode(support.inputs, theta)
        return theta | self.adapt_features(Examples(features, support.targets), ways)

    def predict(self, theta: Theta, inputs: Tensor) -> Tensor:
        return self.predict_features(theta, self.encode(inputs, theta))

    def embed(self, episode: Episode, theta: Theta) -> Tensor:
        """Vectors ``[T, N + Q, D]`` of support and query, embedded as one batch, as is usual.

        In training, batch normalisation then sees both alike; afterwards it makes no difference.
        """
        both = torch.cat([episode.support.inputs, episode.query.inputs], dim=1)
        return self.encode(both, theta)

    def solve(self, episode: Episode, features: Tensor, theta: Theta) -> Tensor:
        """Logits ``[T, Q, ways]``, from what :meth:`embed` made of support and query."""
        support, ways = episode.support, episode.ways
        shots = support.inputs.shape[1]
        theta = theta | self.adapt_features(Examples(features[:, :shots], support.targets), ways)
        return self.predict_features(theta, features[:, shots:])

    def forward(self, episode: Episode, features: Tensor | None = None) -> Tensor:
        """Adapts and predicts: logits ``[T, Q, ways]``.

        Args:
            episode: the tasks.
            features: what :meth:`embed` makes of them, if it is known already.
        """
        theta = self.condition(episode.support, episode.ways)
        features = self.embed(episode, theta) if features is None else features
        return self.solve(episode, features, theta)

    def loss(self, episode: Episode, features: Tensor | None = None) -> LossAndLogits:
        """The loss and the logits of :meth:`Strategy.loss`; ``features`` as in :meth:`forward`."""
        logits = self(episode, features)
        return task_loss(logits, episode.query.targets), logits

    def rotated_loss(self, episode: Episode, rotations: int) -> LossAndLogits:
        """The mean loss of an episode whose examples take turns at being the support.

        Every example is encoded once; the rotations (:meth:`Episode.rotated`) are further tasks on
        the same vectors, which costs little when the encoder is deep. :meth:`loss` then gets an
        episode of vectors. The logits returned are those of the episode as it was given.

        Laenen and Bertinetto, "On Episodes, Prototypical Networks, and Few-Shot Learning", NeurIPS
        2021, show how much is learned from the pairs of a batch that a single division into support
        and query leaves out.

        Raises:
            ValueError: if the support changes the encoder, so that every rotation would need
                vectors of its own.
        """
        theta = self.condition(episode.support, episode.ways)
        if theta:
            raise InputError(
                f"support_rotations is {rotations}, but the encoder of this {type(self).__name__} "
                "depends on the support. Use support_rotations=1."
            )
        vectors, shots = self.embed(episode, theta), episode.support.targets.shape[1]
        support = Examples(vectors[:, :shots], episode.support.targets)
        query = Examples(vectors[:, shots:], episode.query.targets)
        rotated = unchecked_episode(support, query, episode.ways).rotated(rotations)
        both = torch.cat([rotated.support.inputs, rotated.query.inputs], dim=1)
        loss, logits = self.loss(rotated, both)
        return loss, None if logits is None else logits[: episode.tasks]
