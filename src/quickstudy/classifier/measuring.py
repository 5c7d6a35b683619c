"""How well a classifier answers labelled inputs that it has not learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from quickstudy.classifier.model import Model
from quickstudy.datasets.labels import as_labels
from quickstudy.datasets.spelling import spelt_as
from quickstudy.errors import InputError
from quickstudy.evaluation.evaluator import calibration_error


@dataclass(frozen=True)
class Measurement:
    """The measured numbers, JSON-ready.

    Args:
        facts: numbers about all inputs, by name.
        classes: numbers about each class.
    """

    facts: dict[str, Any]
    classes: list[dict[str, Any]]


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, from ``right`` successes out of ``of``.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927. Unlike
    mean ± 1.96 standard errors it stays within 0 and 1 and is not empty if all are right.

    >>> low, high = wilson_interval(8, 10)
    >>> f"{low:.3f} {high:.3f}"
    '0.490 0.943'
    """
    if not of:
        return math.nan, math.nan
    from scipy.stats import binomtest

    interval = binomtest(right, of).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def measured(
    model: Model, raw: Sequence[Any], labels: Any, coverage: float = 0.9, keep: float = 0.95
) -> Measurement:
    """Asks a classifier about labelled inputs and compares.

    Inputs of classes that it has not learned count only for how many of them are rejected.

    Args:
        model: to be measured.
        raw: N inputs.
        labels: their N labels.
        coverage: coverage of the prediction sets.
        keep: the share of inputs of known classes that rejection is to keep.

    Raises:
        InputError: when no input is of a class that the classifier has learned.
    """
    truth = spelt_as(as_labels(labels, len(raw)), model.classes)
    of_known = np.isin(truth, model.classes)
    if not of_known.any():
        raise InputError(
            f"None of the {len(truth)} examples is of a class that the classifier has learned; "
            f"their labels are like {truth.tolist()[0]!r}, its classes like "
            f"{model.classes.tolist()[0]!r}."
        )
    prepared = model.prepared(raw)
    logits = model.logits(prepared)
    probabilities, answers = model.answers.proba(logits), model.answers.labels(logits)
    hits = (answers == truth)[of_known]
    count, right = len(hits), int(hits.sum())
    low, high = wilson_interval(right, count)
    confidences = torch.from_numpy(probabilities.max(1)[of_known])
    facts: dict[str, Any] = {
        "examples": count,
        "accuracy": right / count,
        "accuracy low (95 %)": low,
        "accuracy high (95 %)": high,
        "calibration error": calibration_error(confidences, torch.from_numpy(hits)),
    }
    if model.answers.set_threshold is not None:
        sets = model.answers.sets(logits, coverage, model.readable(prepared))
        own = [(each, true) for each, true, k in zip(sets, truth, of_known, strict=True) if k]
        facts |= {
            "coverage asked for": coverage,
            "coverage": float(np.mean([true in each for each, true in own])),
            "mean size of sets": float(np.mean([len(each) for each, _ in own])),
        }
        kept = model.known(prepared, keep)
        assert kept is not None
        inside = kept[of_known]
        facts |= {
            "share to keep": keep,
            "rejected": float(1 - inside.mean()),
            "accuracy of the kept": float(hits[inside].mean()) if inside.any() else None,
        }
        if not of_known.all():
            facts["rejected of unknown classes"] = float(1 - kept[~of_known].mean())
    if not of_known.all():
        facts["examples of unknown classes"] = int((~of_known).sum())
    classes = []
    for label in model.classes.tolist():
        own_rows = truth[of_known] == label
        of, of_right = int(own_rows.sum()), int(hits[own_rows].sum())
        low, high = wilson_interval(of_right, of)
        classes.append(
            {
                "class": label,
                "examples": of,
                "answered": int((answers[of_known] == label).sum()),
                "accuracy": of_right / of if of else None,
                "low": low if of else None,
                "high": high if of else None,
            }
        )
    return Measurement(facts, classes)
