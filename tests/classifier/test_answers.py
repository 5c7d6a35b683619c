"""Rejecting, sets, suggestions and explanations."""

import numpy as np
import pytest
import torch
from torch import nn

from quickstudy import FewShotClassifier
from quickstudy.encoders import AudioCNN
from quickstudy.inputs import AudioInputs
from quickstudy.strategies import LogisticRegression


@pytest.fixture
def fitted(blobs):
    return FewShotClassifier().fit(*blobs)


def test_far_away_is_none_of_the_classes(fitted, blobs):
    X, _ = blobs
    far = np.full((4, 6), 40.0) * np.array([[1, -1, 1, -1, 1, -1]])
    answers = fitted.predict(np.vstack([X, far]), keep=True)
    assert answers.dtype == object
    assert answers[-4:].tolist() == [None] * 4
    kept = answers[:-4] != None  # noqa: E711 - element by element
    assert kept.mean() > 0.8
    assert (answers[:-4][kept] == fitted.predict(X)[kept]).all()


def test_a_larger_share_keeps_more(near_blobs):
    X, y = near_blobs
    fitted = FewShotClassifier().fit(X, y)
    some = X + np.random.default_rng(1).normal(size=X.shape)
    kept = [(fitted.predict(some, keep=share) != None).sum() for share in (0.5, 0.8, 0.99)]  # noqa: E711
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


def test_the_former_name_of_keep_is_understood(near_blobs):
    X, y = near_blobs
    fitted = FewShotClassifier().fit(X, y)
    with pytest.warns(DeprecationWarning, match="keep.*version 1.0"):
        former = fitted.predict(X, reject=0.5)
    assert former.tolist() == fitted.predict(X, keep=0.5).tolist()


@pytest.mark.parametrize("keep", [None, False, np.False_])
def test_without_a_share_to_keep_nothing_is_rejected(fitted, keep):
    far = [[90.0, -90, 90, -90, 90, -90]]
    assert None not in fitted.predict(far, keep=keep).tolist()
    assert fitted.predict(far, keep=True).tolist() == fitted.predict(far, keep=0.95).tolist()


def test_numeric_labels_are_rejected_as_none_too(blobs):
    X, y = blobs
    numbers = np.unique(y, return_inverse=True)[1]
    answers = FewShotClassifier().fit(X, numbers).predict([[90.0, -90, 90, -90, 90, -90]], True)
    assert answers.tolist() == [None]


def test_sets_grow_with_coverage_and_begin_with_the_answer(near_blobs):
    X, y = near_blobs
    fitted = FewShotClassifier().fit(X, y)
    narrow, wide = fitted.predict_set(X, 0.5), fitted.predict_set(X, 0.96)
    answers = fitted.predict(X)
    for small, large, answer in zip(narrow, wide, answers, strict=True):
        assert all(some[0] == answer for some in (small, large) if len(some))
        assert set(small) <= set(large)
    assert sum(map(len, wide)) > sum(map(len, narrow))


def test_examples_that_are_given_twice_are_measured_once(near_blobs):
    """Else a twin among what is learned from would answer for the example that is held out."""
    X, y = near_blobs
    once = FewShotClassifier().fit(X, y)
    twice = FewShotClassifier().fit(X, y).partial_fit(X[:7], y[:7])
    assert twice.temperature_ == once.temperature_
    trusts = [each.model_.learner.calibration for each in (once, twice)]
    assert torch.equal(trusts[0].out_of_fold, trusts[1].out_of_fold[: len(X)])
    assert trusts[1].out_of_fold[len(X) :].isnan().all()
    of_known = [each.out_of_distribution.of_known for each in trusts]
    np.testing.assert_array_equal(*of_known)
    # Under another label it is another example.
    other = np.unique(y)[np.unique(y, return_inverse=True)[1] - 1]
    with pytest.warns(UserWarning, match="under two classes"):
        wrong = FewShotClassifier().fit(np.r_[X, X[:1]], np.r_[y, other[:1]])
    assert wrong.model_.learner.calibration.out_of_fold.isfinite().all()


def test_without_calibration_there_is_nothing_to_trust(blobs):
    X, y = blobs
    classifier = FewShotClassifier(calibrate=False).fit(X, y)
    assert classifier.temperature_ == 1
    for ask in (lambda: classifier.predict(X, keep=True), lambda: classifier.predict_set(X)):
        with pytest.raises(ValueError, match="calibrate=True"):
            ask()


@pytest.mark.parametrize("share", [0.0, 1.5, -1])
def test_shares_lie_between_0_and_1(fitted, blobs, share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        fitted.predict(blobs[0], keep=share)
    with pytest.raises(ValueError, match="between 0"):
        fitted.predict_set(blobs[0], coverage=share)


def test_one_example_a_class_predicts_but_cannot_be_measured(blobs):
    X, y = blobs
    classifier = FewShotClassifier().fit(X[::8], y[::8])
    assert classifier.predict(X[::8]).tolist() == y[::8].tolist()
    np.testing.assert_allclose(classifier.predict_proba(X).sum(1), 1)
    with pytest.raises(ValueError, match="one example"):
        classifier.predict_set(X)


def test_suggestions_are_different_rows(fitted):
    unlabelled = np.random.default_rng(2).normal(size=(20, 6), scale=3)
    chosen = fitted.suggest(unlabelled, 5)
    assert len(set(chosen.tolist())) == 5
    assert set(chosen.tolist()) <= set(range(20))
    with pytest.raises(ValueError, match="ask for 1 to 20"):
        fitted.suggest(unlabelled, 21)


def test_exact_shares_add_up_to_the_logit(fitted, blobs):
    X, _ = blobs
    for row in (0, 9, 20):
        explained = fitted.explain(X[row])
        logits = fitted.decision_function(X[row : row + 1])[0]
        answer = fitted.classes_.tolist().index(explained.label)
        assert "together" in explained.meaning
        # The dual solution is exact to the solver's convergence, 1e-9.
        assert sum(each.weight for each in explained.examples) == pytest.approx(
            logits[answer], rel=1e-6
        )
        assert explained.supporting[0].label == explained.label
        assert explained.probability == pytest.approx(fitted.predict_proba(X[row : row + 1]).max())


def test_an_example_alone_speaks_most_for_itself(blobs):
    X, y = blobs
    classifier = FewShotClassifier(strategy="NearestNeighbor").fit(X, y)
    explained = classifier.explain(X[3])
    assert explained.examples[0].index == 3
    assert explained.label == y[3]
    assert all(each.label == y[3] for each in explained.supporting)
    assert all(each.label != y[3] for each in explained.opposing)
    assert sum(abs(each.weight) for each in explained.examples) == pytest.approx(1)


def test_texts_are_called_by_themselves(minilm, texts):
    (X, y), (asked, _) = texts
    explained = FewShotClassifier(encoder=minilm).fit(X, y).explain(asked[0])
    assert explained.supporting[0].name in X
    assert explained.supporting[0].name in str(explained)


def test_one_input_is_explained_at_a_time(blobs):
    X, y = blobs
    head = LogisticRegression(nn.Identity(), normalize=False)
    classifier = FewShotClassifier(strategy=head).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        classifier.explain(X)


def test_one_example_of_each_class_is_nothing_to_warn_of(recwarn):
    X = np.random.default_rng(0).standard_normal((40, 8))
    FewShotClassifier(calibrate=False).fit(X, [f"class {number}" for number in range(40)])
    assert not [each for each in recwarn if "unique classes" in str(each.message)]


def test_sounds_may_be_arrays_of_different_lengths_with_their_rates():
    generator = np.random.default_rng(0)
    lengths = (900, 1200, 1000, 1600)
    sounds = [(generator.standard_normal(n).astype(np.float32) / 9, 8000) for n in lengths]
    inputs = AudioInputs(rate=8000, seconds=0.2)
    encoder = AudioCNN((inputs.samples,), 8000, channels=4)
    for given in (sounds, [array for array, _ in sounds]):
        classifier = FewShotClassifier(encoder=encoder, inputs=inputs, calibrate=False)
        classifier.fit(given, ["a", "a", "b", "b"])
        assert len(classifier.predict(given)) == 4
        assert {each.label for each in classifier.explain(given[0]).examples} == {"a", "b"}


def test_sounds_of_one_length_are_no_table():
    generator = np.random.default_rng(0)
    sounds = [generator.uniform(-0.5, 0.5, 400).astype(np.float32) for _ in range(4)]
    encoder = AudioCNN((800,), rate=8000, blocks=1, channels=4).eval()
    classifier = FewShotClassifier(encoder, inputs=AudioInputs(8000, 0.1))
    classifier.fit(sounds, [0, 0, 1, 1])
    assert len(classifier.predict([sounds[0][:300]])) == 1  # of another length
    assert classifier.explain(sounds[2]).examples[0].index == 2


def test_more_examples_of_one_class_do_not_make_it_the_usual_answer():
    """Without an equal say of the classes, one with ten examples takes those of one with one."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 40))
    sizes = [10, 1, 10, 1, 10, 1]
    y = np.repeat(range(6), sizes)
    encoder = nn.Identity()
    X = torch.from_numpy(centres[y] + 1.3 * generator.normal(size=(len(y), 40)))
    asked = np.repeat(range(6), 50)
    queries = torch.from_numpy(centres[asked] + 1.3 * generator.normal(size=(300, 40)))
    answers = FewShotClassifier(encoder, calibrate=False).fit(X, y).predict(queries)
    assert np.mean(answers % 2) > 0.3  # of half that are of small classes; without it 0.12


def test_a_column_of_a_table_is_read_as_its_texts(minilm):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"said": ["where is my card", "my card is lost", "what is the rate"]})
    classifier = FewShotClassifier(encoder=minilm).fit(table, ["card", "card", "rate"])
    for given in (table, table["said"], table.to_numpy(), list(table["said"])):
        assert classifier.predict(given).tolist() == ["card", "card", "rate"]
