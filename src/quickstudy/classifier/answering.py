"""Everything that a fitted classifier needs in order to answer, with numpy alone.

Labels, probabilities, prediction sets and "none of these" come from :class:`Answers`, whoever asks:
the estimator, the command line, a service, or a runtime without torch. So all agree to the last
digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.classifier.out_of_distribution import OutOfDistributionScore
from quickstudy.classifier.prediction_sets import SetThreshold, log_odds
from quickstudy.errors import InputError

Floats = NDArray[np.floating[Any]]
Labels = NDArray[Any]

DEFAULT_KEEP = 0.95
"""The share of known inputs that ``keep=True`` keeps."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """The θ of a learner whose logits are W x + b − s ‖x‖² for features x.

    Logistic regression has s = 0. Prototypes c_k that are compared by squared distance have
    w_k = 2 c_k, b_k = −‖c_k‖² and s = 1.

    Args:
        weight: W, ``[K, D]``.
        bias: b, ``[K]``.
        square: s.
        normalize: whether features are brought to length 1 first.
    """

    weight: Floats
    bias: Floats
    square: float = 0.0
    normalize: bool = False

    def compared(self, features: Floats) -> Floats:
        """Features ``[Q, D]`` in the form in which they are compared."""
        if not self.normalize:
            return features
        lengths: Floats = np.linalg.norm(features, axis=-1, keepdims=True)
        compared: Floats = features / np.maximum(lengths, 1e-12)
        return compared

    def logits(self, features: Floats) -> Floats:
        """Logits ``[Q, K]`` of features ``[Q, D]``."""
        x = self.compared(features)
        logits: Floats = x @ self.weight.T + self.bias
        if self.square:
            logits -= self.square * np.square(x).sum(-1, keepdims=True)
        return logits


@dataclass(frozen=True, eq=False)
class Answers:
    """From logits and features to labels, probabilities, prediction sets and "none of these".

    Args:
        classes: the sorted labels of the K classes.
        shares: each class's share of the examples, ``[K]``: the probabilities of inputs that the
            encoder cannot read.
        temperature: divisor of the logits that calibrates probabilities.
        head: θ, where the logits are linear in the features.
        set_threshold: None if it was not measured.
        out_of_distribution: detects "none of these"; None if it was not measured.
    """

    classes: Labels
    shares: Floats
    temperature: float = 1.0
    head: LinearHead | None = None
    set_threshold: SetThreshold | None = None
    out_of_distribution: OutOfDistributionScore | None = None

    def logits(self, features: Floats) -> Floats:
        """Logits ``[Q, K]`` of features ``[Q, D]``, if the classifier has a linear head.

        Rows of NaN stand for inputs that the encoder cannot read.
        """
        if self.head is None:
            raise InputError(
                "The logits of this classifier are not linear in its features; its strategy must "
                "compute them."
            )
        read = np.asarray(np.isfinite(features).all(axis=1))
        if read.all():
            return self.head.logits(features)
        return self.with_unread(self.head.logits(features[read]), read)

    def with_unread(self, logits: Floats, read: NDArray[np.bool_]) -> Floats:
        """Logits ``[Q, K]`` of all inputs, whose probabilities are the shares if not readable.

        Args:
            logits: logits of the readable inputs, in their order.
            read: a mask ``[Q]`` of these inputs.
        """
        unread = (np.log(self.shares) * self.temperature).astype(np.float32)
        every = np.tile(unread.astype(logits.dtype), (len(read), 1))
        every[read] = logits
        return every

    def calibrated(self, logits: Floats) -> Floats:
        """Logits ``[Q, K]`` whose softmax is calibrated."""
        return logits / self.temperature

    def proba(self, logits: Floats) -> NDArray[np.float64]:
        """Calibrated probabilities ``[Q, K]``."""
        scaled = self.calibrated(logits).astype(np.float64)
        exponentials = np.exp(scaled - scaled.max(-1, keepdims=True))
        probabilities: NDArray[np.float64] = exponentials / exponentials.sum(-1, keepdims=True)
        return probabilities

    def labels(self, logits: Floats, known: NDArray[np.bool_] | None = None) -> Labels:
        """The most probable labels ``[Q]``; None, in an array of objects, where not ``known``."""
        labels: Labels = self.classes[logits.argmax(-1)]
        if known is None:
            return labels
        labels = labels.astype(object)
        labels[~known] = None
        return labels

    def sets(
        self, logits: Floats, coverage: float, read: NDArray[np.bool_] | None = None
    ) -> list[Labels]:
        """For each input its possible labels, the most probable first.

        Args:
            logits: ``[Q, K]``.
            coverage: the share of inputs of known classes whose set holds their label.
            read: a mask ``[Q]`` of the inputs that could be read; the others get all labels.

        Raises:
            ValueError: when the coverage is not between 0 and 1, no class has two examples, or the
                classifier was fitted with ``calibrate=False``.
        """
        if self.set_threshold is None:
            raise _not_measured("prediction sets")
        probabilities = self.proba(logits)
        inside = log_odds(probabilities) >= self.set_threshold.at(coverage)
        if read is not None:
            inside[~read] = True
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        chosen = np.take_along_axis(inside, order, axis=-1)
        return [self.classes[row[few]] for row, few in zip(order, chosen, strict=True)]

    def known(self, features: Floats, keep: bool | float | None = True) -> NDArray[np.bool_]:
        """Whether inputs seem to belong to any of the classes at all, ``[Q]``.

        Args:
            features: ``[Q, D]``. Rows of NaN stand for inputs that the encoder cannot read; they
                belong to none.
            keep: the share of inputs of known classes to keep; True for 0.95. None and False
                keep every input.

        Raises:
            ValueError: when the share is not between 0 and 1, no class has two examples, or the
                classifier was fitted with ``calibrate=False``.
        """
        share = kept_share(keep)
        if share is None:
            return np.ones(len(features), dtype=np.bool_)
        if self.out_of_distribution is None:
            raise _not_measured("rejecting inputs")
        threshold = self.out_of_distribution.threshold(share)
        if self.head is not None:
            features = self.head.compared(features)
        known: NDArray[np.bool_] = self.out_of_distribution.scores(features) >= threshold
        return known


def kept_share(keep: bool | float | None) -> float | None:
    """The share of known inputs to keep, or None if every input is kept.

    Raises:
        ValueError: when ``keep`` is neither None, a boolean nor a number.
    """
    if isinstance(keep, bool | np.bool_):
        return DEFAULT_KEEP if keep else None
    if keep is None or isinstance(keep, Real):
        return None if keep is None else float(keep)
    raise InputError(f"keep is {keep!r}; give None, True, False or a share between 0 and 1.")


def _not_measured(what: str) -> InputError:
    return InputError(f"For {what} the classifier must have learned with calibrate=True.")
