"""The estimator keeps scikit-learn's rules."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from quickstudy import FewShotClassifier
from quickstudy.inputs import ImageInputs


@parametrize_with_checks([FewShotClassifier()])
def test_every_check_of_scikit_learn(estimator, check):
    check(estimator)


def test_pipeline_and_cross_validation(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier())
    assert cross_val_score(pipeline, X, y, cv=4).mean() > 0.9


def test_grid_search_chooses_a_strategy(blobs):
    X, y = blobs
    search = GridSearchCV(
        FewShotClassifier(),
        {"strategy": [None, "PrototypicalNetwork", "NearestNeighbor"], "calibrate": [True, False]},
        cv=3,
        scoring="neg_log_loss",
    )
    search.fit(X, y)
    assert set(search.best_params_) == {"strategy", "calibrate"}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == y.shape


def test_cross_validation_of_texts(minilm, texts):
    (X, y), _ = texts
    scores = cross_val_score(FewShotClassifier(encoder=minilm), X, y, cv=2)
    assert scores.mean() > 0.6  # chance is 0.2


def test_a_table_with_column_names_remembers_them(blobs):
    pandas = pytest.importorskip("pandas")
    X, y = blobs
    table = pandas.DataFrame(X, columns=list("abcdef"))
    classifier = FewShotClassifier().fit(table, y)
    assert classifier.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(table[["b", "a", "c", "d", "e", "f"]])


def test_clone_keeps_every_argument():
    given = {
        "encoder": "somewhere",
        "strategy": "PrototypicalNetwork",
        "inputs": ImageInputs(8),
        "calibrate": False,
        "cache": False,
        "device": "cpu",
        "keep_examples": False,
        "class_names": False,
        "random_state": 3,
    }
    classifier = clone(FewShotClassifier(**given))
    assert classifier.get_params() == given


def test_the_default_is_regularised_logistic_regression(blobs):
    """With features of any length: scikit-learn's own of centred ones, its bias penalised too."""
    X, y = blobs
    strength = 0.2 / np.sqrt(len(X) / len(set(y)))
    theirs = LogisticRegression(C=1 / strength, fit_intercept=False, tol=1e-10, max_iter=1000)
    centred = np.hstack([X - X.mean(0), np.ones((len(X), 1))])
    expected = theirs.fit(centred, y).predict_proba(centred)
    ours = FewShotClassifier(calibrate=False).fit(X, y)
    # Both are solved to convergence; theirs stops at a gradient of 1e-10.
    np.testing.assert_allclose(ours.predict_proba(X), expected, atol=1e-6)
