"""Names of classes as examples."""

import numpy as np
import pytest
import torch

import quickstudy as qs
from quickstudy.classifier.class_names import spoken, tell_classes_apart


def test_names_as_people_say_them():
    labels = np.array(["card_about_to_expire", "cardArrival", "Refund not showing up?", "e-mail"])
    assert spoken(labels) == [
        "card about to expire",
        "card Arrival",
        "Refund not showing up",
        "e mail",
    ]


@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], ["cat", "?"], [True, False]])
def test_labels_that_are_not_words(labels):
    assert spoken(np.array(labels)) is None


def test_names_that_tell_classes_apart_and_names_that_do_not():
    torch.manual_seed(0)
    names, targets = torch.randn(10, 8), torch.arange(10).repeat(3)
    near = names[targets] + 0.3 * torch.randn(30, 8)
    assert tell_classes_apart(names, near, targets)
    assert not tell_classes_apart(names.roll(1, 0), near, targets)
    many = targets.repeat(100)
    assert tell_classes_apart(names, names[many], many)
    # Two of two right is chance with a probability of a quarter.
    assert not tell_classes_apart(torch.eye(2), torch.eye(2), torch.tensor([0, 1]))


TEXTS = {
    "card_arrival": ["where is the card I ordered", "my new card has not come yet"],
    "exchange_rate": ["how many dollars do I get for a pound", "is your euro rate fair"],
    "change_pin": ["I want another PIN", "let me choose new digits for my card"],
    "lost_phone": ["my mobile was stolen", "I cannot find my smartphone"],
    "top_up_failed": ["my top up did not work", "why was adding money declined"],
}
X = [text for some in TEXTS.values() for text in some]
Y = [name for name, some in TEXTS.items() for _ in some]


def test_the_classifier_counts_names_as_examples(minilm, tmp_path):
    with_names = qs.FewShotClassifier(minilm).fit(X, Y)
    without = qs.FewShotClassifier(minilm, class_names=False).fit(X, Y)
    numbered = qs.FewShotClassifier(minilm).fit(X, [str(sorted(TEXTS).index(y)) for y in Y])
    assert with_names.model_.learner.named.shape == (5, 384)
    query = ["the exchange rate", "I lost my phone"]
    assert with_names.predict(query).tolist() == ["exchange_rate", "lost_phone"]
    asked = ["the exchange rate"]
    assert with_names.predict_proba(asked).max() > without.predict_proba(asked).max()
    np.testing.assert_allclose(numbered.predict_proba(query), without.predict_proba(query))
    shown = with_names.explain("the exchange rate")
    assert shown.supporting[0].name == "the name of the class"
    total = sum(each.weight for each in shown.examples)
    best = with_names.decision_function(["the exchange rate"]).max()
    # The parts are summed in another order, in float32.
    assert total == pytest.approx(float(best), rel=1e-3)

    with_names.save(tmp_path / "bank.qs")
    again = qs.FewShotClassifier.load(tmp_path / "bank.qs")
    np.testing.assert_array_equal(again.predict_proba(query), with_names.predict_proba(query))
    more = again.partial_fit(["I am moving house"], ["new_address"])
    assert more.model_.learner.named.shape == (6, 384)


def test_names_are_refused_where_they_cannot_be_examples(minilm):
    with pytest.raises(ValueError, match="labels are words"):
        qs.FewShotClassifier(minilm, class_names=True).fit(X, [len(y) for y in Y])
