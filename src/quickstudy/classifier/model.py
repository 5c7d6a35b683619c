"""The fitted model: the examples, and a strategy that has adapted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.classifier.answering import Answers, Floats, kept_share
from quickstudy.classifier.class_names import spoken, tell_classes_apart
from quickstudy.classifier.explanation import UNREAD, Evidence, Explanation, weights_for
from quickstudy.classifier.labels import classes_and_targets
from quickstudy.classifier.learner import Learner
from quickstudy.classifier.parts import Parts
from quickstudy.classifier.raw import names_of
from quickstudy.classifier.suggestion import suggest
from quickstudy.classifier.support import Support, called, read_examples, warn_of_contradictions
from quickstudy.datasets.labels import as_labels, check_same_type
from quickstudy.datasets.spelling import Labels
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import is_text
from quickstudy.messages import warn_caller
from quickstudy.progress import report


@dataclass(frozen=True)
class Settings:
    """How a model learns.

    Args:
        calibrate: measure on held-out examples how far the answers can be trusted.
        keep_examples: keep the names and small pictures of the examples.
        seed: seed of all random numbers.
        class_names: use each class's name as an extra example (texts only); None: only if that
            helps.
    """

    calibrate: bool = True
    keep_examples: bool = True
    seed: int = 0
    class_names: bool | None = None


@dataclass
class Model:
    """The fitted model, independent of scikit-learn; this is what ``.qs`` files store.

    Args:
        parts: how inputs are read, and the strategy.
        settings: how it learns.
        support: the examples.
        classes: the sorted labels of the K classes.
        learner: the strategy, adapted to the support.
        extra: further values to store in files, JSON-ready.

    Attributes:
        answers: turns logits and features into labels, probabilities and prediction sets.
    """

    parts: Parts
    settings: Settings
    support: Support
    classes: Labels
    learner: Learner
    extra: dict[str, Any] = field(default_factory=dict)
    answers: Answers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        on_rows = self.support.kept.ndim == 2
        self.answers = self.learner.answers(self.classes, self.targets, on_rows)

    @classmethod
    def learned(
        cls,
        parts: Parts,
        raw: Any,
        y: Any,
        settings: Settings,
        names: Sequence[str] | None = None,
    ) -> Model:
        """Learns from raw inputs and their labels.

        Args:
            parts: how inputs are read, and the strategy.
            raw: N inputs.
            y: N labels.
            settings: how it learns.
            names: names of the N inputs; by default their texts and paths.

        Raises:
            ValueError: when an input or a label is wrong, or there is one class only.
        """
        return _adapted(
            parts, settings, read_examples(parts, raw, as_labels(y), settings.keep_examples, names)
        )

    def extended(self, raw: Any, y: Any, names: Sequence[str] | None = None) -> Model:
        """Learns from further examples too: as if all had been there from the start."""
        labels = as_labels(y)
        check_same_type(self.classes, labels)
        new = read_examples(
            self.parts, raw, labels, self.settings.keep_examples, names, self.classes
        )
        return self.with_support(self.support.joined(new))

    def with_support(self, support: Support) -> Model:
        """The same parts and settings, learned from other examples."""
        learned = _adapted(self.parts, self.settings, support)
        return replace(learned, extra=dict(self.extra))

    @property
    def targets(self) -> Tensor:
        """The number ``[N]`` of each example's class."""
        return torch.from_numpy(np.searchsorted(self.classes, self.support.labels))

    @property
    def sizes(self) -> dict[Any, int]:
        """The number of examples of each class, by its label."""
        labels = self.support.labels.tolist()
        return {label: labels.count(label) for label in self.classes.tolist()}

    def prepared(self, raw: Any) -> Tensor:
        """Raw inputs as the strategy reads them, ``[Q, *shape]``.

        Raises:
            ValueError: when an input cannot be used.
        """
        reader = self.parts.reader
        expected = self.support.kept
        kept = reader.read(raw, expected)
        if kept.shape[1:] != expected.shape[1:]:
            raise InputError(
                f"The classifier learned from inputs of the shape {list(expected.shape[1:])}; "
                f"these have {list(kept.shape[1:])}."
            )
        prepared = reader.prepare(kept.to(expected.dtype))
        blank = self.learner.blank(prepared).nonzero()[:, 0].tolist()
        if blank:
            warn_caller(
                f"The encoder cannot read {len(blank)} of {len(prepared)} inputs, such as "
                f"{called(names_of(raw), blank[0])}. Their probabilities are the classes' shares "
                "of the examples, their prediction sets hold all classes, and with keep= they "
                "get no class."
            )
        return prepared

    def readable(self, prepared: Tensor) -> NDArray[np.bool_]:
        """A mask ``[Q]`` of the prepared inputs that the encoder could read."""
        return ~self.learner.blank(prepared).cpu().numpy()

    def logits(self, prepared: Tensor) -> Floats:
        """Logits ``[Q, K]`` of prepared inputs, as :class:`Answers` takes them."""
        if self.answers.head is not None:
            return self.answers.logits(prepared.cpu().numpy())
        read = self.readable(prepared)
        if read.all():
            return self.learner.logits(prepared).cpu().numpy()
        logits = np.empty((0, len(self.classes)), np.float32)
        if read.any():
            logits = self.learner.logits(prepared[torch.from_numpy(read)]).cpu().numpy()
        return self.answers.with_unread(logits, read)

    def features(self, prepared: Tensor) -> Floats:
        """A vector for each prepared input, ``[Q, D]``; NaN for those that could not be read."""
        if self.answers.head is not None:
            return prepared.cpu().numpy()
        read = torch.from_numpy(self.readable(prepared))
        if not read.any():
            return np.full((len(prepared), 1), np.nan)
        found = self.learner.features(prepared[read]).cpu()
        features = found.new_full((len(prepared), *found.shape[1:]), torch.nan)
        features[read] = found
        return features.numpy()

    def known(self, prepared: Tensor, keep: bool | float | None) -> NDArray[np.bool_] | None:
        """Which prepared inputs seem to be of a known class, ``[Q]``; None where all are kept.

        Args:
            prepared: ``[Q, *shape]``.
            keep: the share of inputs of known classes to keep; True for 0.95; None or False to
                keep every input.
        """
        if kept_share(keep) is None:
            return None
        return self.answers.known(self.features(prepared), keep)

    def predict(self, raw: Any, keep: bool | float | None = None) -> Labels:
        """The labels ``[Q]`` of raw inputs; None for inputs that seem to be of no known class.

        Args:
            raw: the inputs.
            keep: as :meth:`known` takes it.
        """
        prepared = self.prepared(raw)
        return self.answers.labels(self.logits(prepared), self.known(prepared, keep))

    def predict_set(self, raw: Any, coverage: float = 0.9) -> list[Labels]:
        """For each raw input the labels it may have, the most probable first; there may be none."""
        prepared = self.prepared(raw)
        return self.answers.sets(self.logits(prepared), coverage, self.readable(prepared))

    def suggest(self, raw: Any, n: int) -> NDArray[np.int64]:
        """Which n of raw inputs to label next, ``[n]``, the most helpful first."""
        prepared = self.prepared(raw)
        if not 1 <= n <= len(prepared):
            raise InputError(
                f"{n} suggestions were asked for; from {len(prepared)} inputs, ask for 1 to "
                f"{len(prepared)}."
            )
        features = self.learner.features
        support = features(self.parts.reader.prepare(self.support.kept))
        blank = self.learner.blank(prepared).cpu()
        seen, unseen = (~blank).nonzero()[:, 0], blank.nonzero()[:, 0]
        some = min(n, len(seen))  # inputs that cannot be read help least
        rows = unseen[: n - some]
        if some:
            best = suggest(features(prepared[seen]), support, some, self.settings.seed)
            rows = torch.cat([seen[best.cpu()], rows])
        chosen: NDArray[np.int64] = rows.numpy()
        return chosen

    def explain(self, raw: Any) -> Explanation:
        """Which examples spoke for and against the answer to one raw input, in a list."""
        query = self.prepared(raw)
        if len(query) != 1:
            raise InputError(f"One input is explained at a time; {len(query)} were given.")
        probabilities = self.answers.proba(self.logits(query))[0]
        answer = int(probabilities.argmax())
        support, targets = self.learner.with_names(
            self.parts.reader.prepare(self.support.kept), self.targets
        )
        if self.learner.blank(query).any():
            weights, meaning = torch.zeros(len(support)), UNREAD
        else:
            weights, meaning = weights_for(self.learner, support, targets, query, answer)
        labels = self.support.labels.tolist() + self.classes.tolist()
        names = self.support.names + ["the name of the class"] * len(self.classes)
        examples = [
            Evidence(number, labels[number], names[number], float(weights[number]))
            for number in weights.argsort(descending=True, stable=True).tolist()
        ]
        label = self.classes.tolist()[answer]
        return Explanation(label, float(probabilities[answer]), examples, meaning)


def _adapted(parts: Parts, settings: Settings, support: Support) -> Model:
    classes, targets = classes_and_targets(support.labels)
    warn_of_contradictions(support, targets)
    prepared = parts.reader.prepare(support.kept)
    named = _named(parts, settings, classes, prepared, torch.from_numpy(targets))
    report("learning", 0, len(support))
    learner = Learner.adapted(
        parts.strategy_for(prepared, len(classes), settings.seed),
        prepared,
        torch.from_numpy(targets),
        len(classes),
        parts.reader.gives_vectors,
        settings.seed,
        settings.calibrate,
        named,
        support.contents,
    )
    return Model(parts, settings, support, classes, learner)


def _named(
    parts: Parts, settings: Settings, classes: Labels, prepared: Tensor, targets: Tensor
) -> Tensor | None:
    """The classes' names as a strategy reads them, if they count as examples."""
    reader = parts.reader
    may_be_used = is_text(reader.modality) and settings.class_names is not False
    names = spoken(classes) if may_be_used else None
    if names is None:
        if settings.class_names:
            raise InputError(
                "Names of classes count as examples where inputs are texts and labels are words; "
                f"here labels are like {classes.tolist()[0]!r}. Leave class_names out."
            )
        return None
    named = reader.prepare(reader.keep(reader.decode(names)))
    if settings.class_names or (
        reader.gives_vectors and tell_classes_apart(named, prepared, targets)
    ):
        return named
    return None
