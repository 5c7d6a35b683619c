"""What a classifier has learned: the examples, and a strategy that has adapted to them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.classifier.class_names import spoken, tell_classes_apart
from quickstudy.classifier.conformal import prediction_sets
from quickstudy.classifier.explanation import Evidence, Explanation, weights_for
from quickstudy.classifier.labels import classes_and_targets
from quickstudy.classifier.learner import Learner, Trust
from quickstudy.classifier.parts import Parts
from quickstudy.classifier.raw import names_of
from quickstudy.classifier.reader import content_numbers, thumbnails
from quickstudy.classifier.suggestion import suggest
from quickstudy.labels import Labels, as_labels, check_same_type, joined, one_spelling

USUAL_SHARE = 0.95
"""The share of known inputs that are not rejected, where nothing is said."""


@dataclass
class Support:
    """The examples.

    Args:
        kept: what the reader keeps of them, ``[N, *shape]``.
        labels: ``[N]``.
        contents: int64 ``[N]``, equal for equal inputs.
        names: N texts or paths; empty where there is none.
        pictures: uint8 ``[N, C, h, w]``, small; None for anything but images.
    """

    kept: Tensor
    labels: Labels
    contents: Tensor
    names: list[str]
    pictures: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def joined(self, new: Support) -> Support:
        """These examples and then the new ones."""
        if self.kept.shape[1:] != new.kept.shape[1:]:
            raise ValueError(
                f"The examples so far have the shape {list(self.kept.shape[1:])}, and the new ones "
                f"{list(new.kept.shape[1:])}."
            )
        pictures = None
        if self.pictures is not None and new.pictures is not None:
            pictures = torch.cat([self.pictures, new.pictures])
        return Support(
            torch.cat([self.kept, new.kept]),
            joined(self.labels, new.labels),
            torch.cat([self.contents, new.contents]),
            self.names + new.names,
            pictures,
        )


@dataclass(frozen=True)
class Settings:
    """How a model learns.

    Args:
        calibrate: measure how far it can be trusted, on examples that are held out.
        keep_examples: keep the names and small pictures of the examples.
        seed: of all that is random.
        class_names: whether the name of a class is an example of it, where inputs are texts; None
            for where names tell the examples apart.
    """

    calibrate: bool = True
    keep_examples: bool = True
    seed: int = 0
    class_names: bool | None = None


@dataclass
class Model:
    """A classifier without scikit-learn's manners, as files hold it.

    Args:
        parts: how inputs are read, and the strategy.
        settings: how it learns.
        support: the examples.
        classes: the sorted labels of the K classes.
        learner: the strategy, adapted to the support.
        extra: what else files shall remember, JSON-ready.
    """

    parts: Parts
    settings: Settings
    support: Support
    classes: Labels
    learner: Learner
    extra: dict[str, Any] = field(default_factory=dict)

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
            names: of the N inputs, where they shall not be called by their texts and paths.

        Raises:
            ValueError: when an input or a label is wrong, or there is one class only.
        """
        return _adapted(parts, settings, _read(parts, raw, as_labels(y), settings, names))

    def extended(self, raw: Any, y: Any, names: Sequence[str] | None = None) -> Model:
        """Learns from further examples too: as if all had been there from the start."""
        labels = as_labels(y)
        check_same_type(self.classes, labels)
        new = _read(self.parts, raw, labels, self.settings, names, self.classes)
        extended = _adapted(self.parts, self.settings, self.support.joined(new))
        return replace(extended, extra=dict(self.extra))

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
        """What the strategy reads of raw inputs, ``[Q, *shape]``.

        Raises:
            ValueError: when an input cannot be used.
        """
        reader = self.parts.reader
        kept = reader.read(raw)
        expected = self.support.kept
        if kept.shape[1:] != expected.shape[1:]:
            raise ValueError(
                f"The classifier learned from inputs of the shape {list(expected.shape[1:])}; "
                f"these have {list(kept.shape[1:])}."
            )
        return reader.prepare(kept.to(expected.dtype))

    def logits(self, prepared: Tensor) -> Tensor:
        """Calibrated logits ``[Q, K]`` of prepared inputs."""
        return self.learner.tempered(self.learner.logits(prepared))

    def probabilities(self, prepared: Tensor) -> Tensor:
        """Calibrated probabilities ``[Q, K]`` of prepared inputs, float64."""
        return self.learner.probabilities(self.learner.logits(prepared))

    def predict(self, raw: Any, reject: bool | float | None = None) -> Labels:
        """The labels ``[Q]`` of raw inputs; None for those that are of no known class.

        Args:
            raw: the inputs.
            reject: True, or the share of known inputs that shall not be rejected.
        """
        prepared = self.prepared(raw)
        logits = self.learner.logits(prepared)
        answers: Labels = self.classes[logits.argmax(-1).cpu().numpy()]
        if reject is None or reject is False:
            return answers
        answers = answers.astype(object)
        answers[self.rejected(prepared, reject)] = None
        return answers

    def rejected(self, prepared: Tensor, share: bool | float) -> NDArray[np.bool_]:
        """Which prepared inputs are of no known class, ``[Q]``.

        Args:
            prepared: ``[Q, *shape]``.
            share: of the known inputs, which shall not be rejected; True for the usual one.
        """
        share = USUAL_SHARE if share is True else float(share)
        known = self._trust("rejecting inputs").known
        scores = known.scores(self.learner.features(prepared))
        return (scores < known.threshold(share)).cpu().numpy()

    def predict_set(self, raw: Any, coverage: float = 0.9) -> list[Labels]:
        """For each raw input the labels it may have, the most probable first; there may be none."""
        return self.prediction_sets(self.probabilities(self.prepared(raw)), coverage)

    def prediction_sets(self, probabilities: Tensor, coverage: float) -> list[Labels]:
        """The labels that belong to probabilities ``[Q, K]``, the most probable first."""
        trust = self._trust("prediction sets")
        held_out, by_fewer = (
            self.learner.probabilities(logits).to(probabilities.device)
            for logits in (trust.held_out, trust.by_fewer)
        )
        targets = self.targets.to(probabilities.device)
        sets = prediction_sets(probabilities, held_out, targets, coverage, by_fewer, trust.advance)
        order = probabilities.argsort(1, descending=True)
        chosen = sets.gather(1, order)
        return [
            self.classes[numbers[inside].cpu().numpy()]
            for numbers, inside in zip(order, chosen, strict=True)
        ]

    def suggest(self, raw: Any, n: int) -> NDArray[np.int64]:
        """Which n of raw inputs to label next, ``[n]``, the most helpful first."""
        prepared = self.prepared(raw)
        if not 1 <= n <= len(prepared):
            raise ValueError(
                f"{n} suggestions were asked for; from {len(prepared)} inputs, ask for 1 to "
                f"{len(prepared)}."
            )
        features = self.learner.features
        support = features(self.parts.reader.prepare(self.support.kept))
        rows = suggest(features(prepared), support, n, self.settings.seed)
        chosen: NDArray[np.int64] = rows.cpu().numpy()
        return chosen

    def explain(self, raw: Any) -> Explanation:
        """Which examples spoke for and against the answer to one raw input, in a list."""
        query = self.prepared(raw)
        if len(query) != 1:
            raise ValueError(f"One input is explained at a time; {len(query)} were given.")
        probabilities = self.probabilities(query)[0]
        answer = int(probabilities.argmax())
        support, targets = self.learner.with_names(
            self.parts.reader.prepare(self.support.kept), self.targets
        )
        weights, meaning = weights_for(self.learner, support, targets, query, answer)
        labels = self.support.labels.tolist() + self.classes.tolist()
        names = self.support.names + ["the name of the class"] * len(self.classes)
        examples = [
            Evidence(number, labels[number], names[number], float(weights[number]))
            for number in weights.argsort(descending=True, stable=True).tolist()
        ]
        label = self.classes.tolist()[answer]
        return Explanation(label, float(probabilities[answer]), examples, meaning)

    def _trust(self, what: str) -> Trust:
        if self.learner.trust is None:
            raise ValueError(f"For {what} the classifier must have learned with calibrate=True.")
        return self.learner.trust


def _read(
    parts: Parts,
    raw: Any,
    labels: Labels,
    settings: Settings,
    names: Sequence[str] | None,
    known: Labels | None = None,
) -> Support:
    stored = parts.reader.decode(raw)
    labels = one_spelling(as_labels(labels, len(stored)), known)
    kept, contents = parts.reader.keep(stored), content_numbers(stored)
    if not settings.keep_examples:
        return Support(kept, labels, contents, [""] * len(labels))
    return Support(kept, labels, contents, list(names or names_of(raw)), thumbnails(stored))


def _adapted(parts: Parts, settings: Settings, support: Support) -> Model:
    classes, targets = classes_and_targets(support.labels)
    _warn_of_contradictions(support, targets)
    prepared = parts.reader.prepare(support.kept)
    named = _named(parts, settings, classes, prepared, torch.from_numpy(targets))
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
    """What a strategy reads of the classes' names, where they shall count as examples."""
    reader = parts.reader
    of_texts = reader.inputs is not None and reader.inputs.kind == "text"
    names = spoken(classes) if of_texts and settings.class_names is not False else None
    if names is None:
        if settings.class_names:
            raise ValueError(
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


def _warn_of_contradictions(support: Support, targets: NDArray[np.int64]) -> None:
    first: dict[int, int] = {}
    twice = []
    for number, content in enumerate(support.contents.tolist()):
        other = first.setdefault(content, number)
        if targets[other] != targets[number]:
            twice.append((other, number))
    if twice:
        a, b = twice[0]
        called = [support.names[n] or f"example {n}" for n in (a, b)]
        labels = support.labels.tolist()
        warnings.warn(
            f"{len(twice)} inputs are given under two classes: {called[0]!r} as {labels[a]!r} and "
            f"{called[1]!r} as {labels[b]!r}, for one. Remove the wrong ones.",
            stacklevel=5,
        )
