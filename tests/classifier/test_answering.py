"""A classifier's answers from numpy alone."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from quickstudy import FewShotClassifier
from quickstudy.classifier.answering import Answers, LinearHead

WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None  # importing it is an ImportError
answers, features, out = pickle.load(open(sys.argv[1], "rb"))
logits = answers.logits(features)
read = ~(features != features).any(1)
found = {
    "labels": answers.labels(logits, answers.known(features, 0.8)),
    "proba": answers.proba(logits),
    "decision": answers.calibrated(logits),
    "sets": answers.sets(logits, 0.8, read),
}
assert not [name for name in sys.modules if name.startswith(("scipy", "sklearn", "torch."))]
pickle.dump(found, open(out, "wb"))
"""


@pytest.mark.parametrize("strategy", [None, "PrototypicalNetwork"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_estimator_answers_as_numpy_alone_does(near_blobs, strategy, dtype, tmp_path):
    X, y = near_blobs
    fitted = FewShotClassifier(strategy=strategy).fit(X.astype(dtype), y)
    asked = np.random.default_rng(1).normal(size=(300, 6)).astype(dtype) * 3
    given = (fitted.model_.answers, asked, str(tmp_path / "found"))
    (tmp_path / "given").write_bytes(pickle.dumps(given))
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, tmp_path / "given"], check=True)
    found = pickle.loads((tmp_path / "found").read_bytes())
    assert found["labels"].tolist() == fitted.predict(asked, keep=0.8).tolist()
    assert 0 < sum(label is None for label in found["labels"]) < 300
    np.testing.assert_array_equal(found["proba"], fitted.predict_proba(asked))
    np.testing.assert_array_equal(found["decision"], fitted.decision_function(asked))
    sets = fitted.predict_set(asked, 0.8)
    assert [each.tolist() for each in found["sets"]] == [each.tolist() for each in sets]


@pytest.mark.parametrize("strategy", [None, "PrototypicalNetwork"])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e3])
def test_the_head_is_what_the_strategy_predicts(near_blobs, strategy, scale):
    X, y = near_blobs
    model = FewShotClassifier(strategy=strategy).fit(scale * X, y).model_
    prepared = model.prepared(scale * X[::-1])
    by_strategy = model.learner.logits(prepared).numpy()
    # Another order of additions in float64.
    np.testing.assert_allclose(model.logits(prepared), by_strategy, rtol=1e-9, atol=1e-9 * scale)


def test_a_strategy_that_predicts_in_another_way_has_no_linear_head(blobs):
    from torch import nn

    from quickstudy.strategies import LogisticRegression

    class Doubled(LogisticRegression):
        def predict_features(self, theta, features):
            return 2 * super().predict_features(theta, features)

    X, y = blobs
    one = FewShotClassifier(strategy=LogisticRegression(nn.Identity()), calibrate=False).fit(X, y)
    other = FewShotClassifier(strategy=Doubled(nn.Identity()), calibrate=False).fit(X, y)
    assert other.model_.answers.head is None
    expected = 2 * one.decision_function(X)
    np.testing.assert_allclose(other.decision_function(X), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="not linear"):
        other.model_.answers.logits(X)


def test_inputs_that_cannot_be_read_get_the_shares_of_the_classes():
    head = LinearHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    answers = Answers(np.array(["a", "b"]), np.array([0.25, 0.75]), 0.5, head)
    logits = answers.logits(np.array([[1, 0], [np.nan, np.nan]], np.float32))
    assert answers.labels(logits).tolist() == ["a", "b"]
    np.testing.assert_allclose(answers.proba(logits)[1], [0.25, 0.75], rtol=1e-6)


def test_answers_do_not_change(blobs):
    answers = FewShotClassifier().fit(*blobs).model_.answers
    with pytest.raises(AttributeError):
        answers.temperature = 2.0
