"""A classifier is measured on labelled inputs."""

import json

import numpy as np
import pytest

from quickstudy import FewShotClassifier
from quickstudy.classifier.measuring import measured, wilson_interval
from quickstudy.errors import InputError


def test_the_interval_is_that_of_wilson():
    assert wilson_interval(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    low, high = wilson_interval(10, 10)
    assert (low, high) == pytest.approx((0.7225, 1.0), abs=5e-4)


def test_numbers_are_those_of_the_answers(near_blobs):
    X, y = near_blobs
    classifier = FewShotClassifier().fit(X[::2], y[::2])
    ask, true = X[1::2], y[1::2].astype(object)
    true[:2] = "unheard"
    found = measured(classifier.model_, ask, true.tolist(), coverage=0.8, keep=0.7)
    known = true != "unheard"
    hits = (classifier.predict(ask) == true)[known]
    sets = classifier.predict_set(ask, coverage=0.8)
    kept = np.array([each is not None for each in classifier.predict(ask, keep=0.7)])
    assert found.facts["examples"] == 10
    assert found.facts["accuracy"] == hits.mean()
    assert found.facts["coverage"] == np.mean(
        [label in some for label, some, k in zip(true, sets, known, strict=True) if k]
    )
    assert found.facts["rejected"] == pytest.approx(1 - kept[known].mean())
    assert found.facts["rejected of unknown classes"] == pytest.approx(1 - kept[:2].mean())
    assert sum(each["examples"] for each in found.classes) == 10
    json.dumps([found.facts, found.classes])


def test_without_calibration_there_are_no_sets(near_blobs):
    X, y = near_blobs
    classifier = FewShotClassifier(calibrate=False).fit(X, y)
    assert "coverage" not in measured(classifier.model_, X, y).facts


def test_labels_of_no_class_are_refused(near_blobs):
    X, y = near_blobs
    classifier = FewShotClassifier().fit(X, y)
    with pytest.raises(InputError, match="None of the 24 examples"):
        measured(classifier.model_, X, ["dog"] * 24)
