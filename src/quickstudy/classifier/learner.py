"""A strategy that has adapted to one support, and how far it can be trusted."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.classifier.answering import Answers, Labels, LinearHead
from quickstudy.classifier.calibration import Calibration, fit_temperature
from quickstudy.classifier.out_of_distribution import OutOfDistributionScore
from quickstudy.classifier.out_of_fold import out_of_fold_logits
from quickstudy.classifier.prediction_sets import SetThreshold
from quickstudy.classifier.reader import unread
from quickstudy.compute.evaluation_mode import Answering
from quickstudy.encoders.vectors import Vectors
from quickstudy.episodes import Examples
from quickstudy.strategies import Strategy
from quickstudy.strategies.strategy import EmbeddingStrategy, Theta

QUERIES_AT_ONCE = 256


@dataclass
class Learner:
    """θ for one support, and the learner ŷ = f(query; θ).

    Args:
        strategy: in evaluation mode.
        theta: θ, of one task.
        ways: the number of classes K.
        on_vectors: whether the strategy reads vectors ``[N, D]`` that something else made.
        seed: of strategies that draw random numbers.
        calibration: how far it can be trusted; None if that was not measured.
        named: the classes' names as the strategy reads them, ``[K, *shape]``, each an example of
            its class; None if names are not used.
    """

    strategy: Strategy
    theta: Theta
    ways: int
    on_vectors: bool
    seed: int = 0
    calibration: Calibration | None = None
    named: Tensor | None = None
    _strategies: Answering[Strategy] = field(init=False, repr=False)
    _draws: bool | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._strategies = Answering(self.strategy)

    @classmethod
    def adapted(
        cls,
        strategy: Strategy,
        prepared: Tensor,
        targets: Tensor,
        ways: int,
        on_vectors: bool,
        seed: int = 0,
        calibrate: bool = True,
        named: Tensor | None = None,
        contents: Tensor | None = None,
    ) -> Learner:
        """Adapts ``strategy``.

        Args:
            strategy: in evaluation mode, where the support is.
            prepared: the support as the strategy reads it, ``[N, *shape]``.
            targets: ``[N]`` int64 in 0..ways-1.
            ways: the number of classes.
            on_vectors: whether ``prepared`` are vectors that something else made.
            seed: random seed of the strategy and of the division into folds.
            calibrate: whether to measure how far the learner can be trusted.
            named: the classes' names as the strategy reads them, if they are examples too.
            contents: ``[N]`` int64, equal for equal inputs. An example that is given more than once
                is held out once, from learners that see none of it.
        """
        learner = cls(strategy, {}, ways, on_vectors, seed, named=named)
        support = Examples(*(each[None] for each in learner.with_names(prepared, targets)))
        with learner._strategies.one() as answering, seeded(seed):
            theta = answering.adapt(support, ways)
        learner.theta = {name: each.detach() for name, each in theta.items()}
        if calibrate:
            numbers = torch.arange(len(prepared)) if contents is None else contents
            learner.calibration = learner._measured(support, _firsts(numbers, targets))
        if not strategy.transductive:  # for those an answer can take as long as adapting
            learner.logits(prepared[:1])  # finds out whether answering draws random numbers
        return learner

    def with_names(self, prepared: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The N support examples, then the classes' names if they count as examples."""
        targets = targets.to(prepared.device)
        if self.named is None:
            return prepared, targets
        labels = torch.arange(self.ways, device=prepared.device)
        return torch.cat([prepared, self.named]), torch.cat([targets, labels])

    def _measured(self, support: Examples, firsts: Tensor) -> Calibration:
        """Measures the learner on held-out support examples.

        Args:
            support: N examples, and then the classes' names, if they are examples too.
            firsts: positions of the distinct examples among the N, ascending.
        """
        count = support.targets.shape[1] - (0 if self.named is None else self.ways)
        places = torch.cat([firsts, torch.arange(count, support.targets.shape[1])])
        places = places.to(support.targets.device)
        different = Examples(support.inputs[:, places], support.targets[:, places])
        examples, names = (
            Examples(different.inputs[:, part], different.targets[:, part])
            for part in (slice(len(firsts)), slice(len(firsts), None))
        )
        with self._strategies.one() as strategy, seeded(self.seed):
            (logits, seen), (by_fewer, fewer) = (
                out_of_fold_logits(
                    strategy,
                    examples,
                    self.ways,
                    seed=self.seed,
                    always=names,
                    together=together,
                )
                for together in (1, 2)
            )
        targets = different.targets[0]
        is_example = torch.arange(len(places), device=targets.device) < len(firsts)
        features = self.features(different.inputs[0])
        known = (_array(features), _array(targets), self.ways, _array(is_example))
        return Calibration(
            _spread(logits, firsts, count),
            fit_temperature(logits, examples.targets[0], self.strategy.default_temperature),
            OutOfDistributionScore.fitted(*known),
            _spread(by_fewer, firsts, count),
            _advance(len(places), seen, fewer),
        )

    def answers(self, classes: Labels, targets: Tensor, on_rows: bool) -> Answers:
        """The value that turns logits and features into answers.

        Args:
            classes: the sorted labels of the K classes.
            targets: the support's classes ``[N]``.
            on_rows: whether the strategy reads rows ``[Q, D]``.
        """
        counted = _array(targets)
        sizes = np.bincount(counted, minlength=self.ways)
        measured = self.calibration
        answers = Answers(
            classes, sizes / sizes.sum(), self.temperature, self._head() if on_rows else None
        )
        if measured is None:
            return answers
        out_of_fold, by_fewer = (
            answers.proba(_array(logits)) for logits in (measured.out_of_fold, measured.by_fewer)
        )
        threshold = SetThreshold.fitted(out_of_fold, by_fewer, counted, measured.advance)
        return replace(
            answers, set_threshold=threshold, out_of_distribution=measured.out_of_distribution
        )

    def _head(self) -> LinearHead | None:
        """θ as numpy knows it, where the strategy's logits are linear in what it reads."""
        encoder = getattr(self.strategy, "encoder", None)
        if not (self.on_vectors and isinstance(encoder, Vectors | nn.Identity)):
            return None
        head = self.strategy.linear_head(self.theta)
        if head is None:
            return None
        weight, bias = _array(head.weight[0]), _array(head.bias[0])
        return LinearHead(weight, bias, head.square, head.normalize)

    def logits(self, prepared: Tensor) -> Tensor:
        """Logits ``[Q, K]`` of queries ``[Q, *shape]`` as the strategy reads them.

        Computed in bounded batches, or all at once if the strategy is transductive.
        """
        at_once = len(prepared) if self.strategy.transductive else QUERIES_AT_ONCE
        with self._answering() as strategy:
            parts = [
                strategy.predict(self.theta, part[None])[0]
                for part in torch.split(prepared, max(1, at_once))
            ]
        return torch.cat(parts)

    def blank(self, prepared: Tensor) -> Tensor:
        """A mask ``[Q]`` of the inputs ``[Q, *shape]`` that could not be read."""
        if not prepared.is_floating_point() and prepared.ndim != 2:
            return torch.zeros(len(prepared), dtype=torch.bool, device=prepared.device)
        return unread(prepared)

    @property
    def temperature(self) -> float:
        """Divisor of the logits that calibrates probabilities."""
        return self.calibration.temperature if self.calibration else 1.0

    def features(self, prepared: Tensor) -> Tensor:
        """A vector for each input ``[Q, *shape]``, ``[Q, D]``, as the strategy compares them.

        The vectors that the strategy reads, otherwise those of its encoder; for a strategy without
        an encoder, the log-probabilities of the classes. The input must be readable (see
        :meth:`blank`).
        """
        if self.on_vectors and prepared.ndim == 2:
            return self.strategy.compared(prepared)
        parts = []
        with self._answering() as strategy:
            for part in torch.split(prepared, QUERIES_AT_ONCE):
                if isinstance(strategy, EmbeddingStrategy):
                    parts.append(strategy.encode(part[None], self.theta)[0].flatten(1))
                else:
                    parts.append(strategy.predict(self.theta, part[None])[0].log_softmax(-1))
        return torch.cat(parts)

    @contextmanager
    def _answering(self) -> Iterator[Strategy]:
        """The strategy for one call, with random numbers drawn from the seed.

        Only one thread at a time can draw from the seed, and others wait for it. So it is first
        found out whether the strategy draws random numbers at all.
        """
        with self._strategies.one() as strategy:
            if self._draws is False:
                yield strategy
                return
            with seeded(self.seed) as drawn:
                yield strategy
                self._draws = bool(self._draws) or drawn()


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _firsts(contents: Tensor, targets: Tensor) -> Tensor:
    """The places, ascending, at which a class has something for the first time."""
    pairs = torch.stack([contents.cpu(), targets.cpu()], dim=1).numpy()
    return torch.from_numpy(np.sort(np.unique(pairs, axis=0, return_index=True)[1]))


def _spread(logits: Tensor, places: Tensor, count: int) -> Tensor:
    """Rows ``[M, K]`` at their places among ``count`` rows, which are NaN elsewhere."""
    spread = logits.new_full((count, logits.shape[1]), torch.nan)
    spread[places.to(logits.device)] = logits
    return spread


def _advance(of_all: float, of_most: float, of_fewer: float) -> float:
    """The step from most examples to all, along the logarithm, in steps from fewer to most.

    At most 1, as it is where classes are of a size: what one step took away the other did too.
    """
    if not of_all > of_most > of_fewer > 0:
        return 0.0
    return min(1.0, math.log(of_all / of_most) / math.log(of_most / of_fewer))


@contextmanager
def seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """Seeds torch's random numbers; afterwards its generators continue as if nothing had happened.

    The generators belong to the whole process, so one thread at a time does this. The function
    yielded reports whether anything has been drawn since.
    """
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cards = range(torch.cuda.device_count()) if in_use else range(0)

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, cards)]

    with _seeding.lock, torch.random.fork_rng(cards):
        torch.manual_seed(seed)
        before = states()
        yield lambda: not all(map(torch.equal, before, states()))


class _Seeding:
    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Starts without drawing threads; a forked process has lost its parent's."""
        self.lock = threading.RLock()


_seeding = _Seeding()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_seeding.begin)
