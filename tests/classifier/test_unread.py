"""Inputs of which the encoder cannot read: warned of, and answered without pretence."""

import warnings

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from quickstudy import FewShotClassifier
from quickstudy.encoders import TextEncoder
from quickstudy.inputs import TextInputs
from quickstudy.inputs.text import UnknownTexts

TEXTS = [
    "where is the card I ordered",
    "my card has not come",
    "the post brought no card",
    "is your euro rate fair",
    "how many dollars for a pound",
    "what do you take for exchange",
]
LABELS = ["card"] * 3 + ["rate"] * 3
UNREAD = ["ካርዴ አልመጣም", "የምንዛሪ ተመን ስንት ነው", "ᎣᏏᏲ ᎤᎵᎮᎵᏍᏗ", "ⵜⴰⵎⴰⵣⵉⵖⵜ"]  # no subword of these is known
NOTHING = ["", " \n", "\ufeff", "\u200b"]


def words(length=8):
    """Reads the words of TEXTS; any other is the same unknown token."""
    known = sorted({word for text in TEXTS for word in text.split()} | {"!", "."})
    numbers = {word: number for number, word in enumerate(["[UNK]", *known])}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return TextInputs(tokenizer.to_str(), length)


def encoder(inputs=None):
    inputs = inputs or words()
    torch.manual_seed(0)
    made = TextEncoder((inputs.length,), inputs.vocabulary, body="bag", width=16)
    made.inputs = inputs
    return made


@pytest.fixture(scope="module")
def fitted():
    return FewShotClassifier(encoder=encoder(), class_names=False).fit(
        [*TEXTS, "card card"], [*LABELS, "card"]
    )


def messages(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = call()
    return result, [str(each.message) for each in seen]


def test_texts_that_cannot_be_read_are_warned_of_at_fit():
    _, said = messages(
        lambda: FewShotClassifier(encoder=encoder()).fit(
            [*TEXTS, *UNREAD[:2]], [*LABELS, "amharic", "amharic"]
        )
    )
    assert any(f"cannot read 2 of 8 texts, such as input 6 ({UNREAD[0]!r})" in s for s in said)


def test_texts_that_cannot_be_read_are_rejected(fitted):
    with pytest.warns(UserWarning, match="cannot read 5 of 6 inputs, such as input 1"):
        found = fitted.predict([TEXTS[0], *UNREAD, "   "], keep=0.99)
    assert found.tolist() == ["card", *[None] * 5]


def test_warnings_point_at_the_line_that_led_to_them(fitted):
    """Whether or not the method is wrapped, as one is whose arguments had other names."""
    for ask in (fitted.predict, fitted.predict_proba):
        with pytest.warns(UserWarning, match="cannot read 5 of 5") as found:
            ask([*UNREAD, "   "])
        assert [each.filename for each in found] == [__file__]


def test_a_real_tokenizer_knows_what_it_cannot_read(minilm):
    classifier = FewShotClassifier(encoder=minilm).fit(TEXTS, LABELS)
    with pytest.warns(UserWarning, match="cannot read 4 of 5 inputs"):
        found = classifier.predict([*UNREAD, TEXTS[0]], keep=True)
    assert found.tolist() == [None] * 4 + ["card"]


def test_different_texts_are_not_called_the_same_input():
    _, said = messages(
        lambda: FewShotClassifier(encoder=encoder()).fit(
            [*TEXTS, UNREAD[0], UNREAD[2]], [*LABELS, "amharic", "cherokee"]
        )
    )
    assert not any("two classes" in each for each in said)
    assert any("cannot tell some inputs" in each and "cherokee" in each for each in said)


def test_texts_that_differ_behind_what_is_read_look_alike():
    long = "card " * 20
    _, said = messages(
        lambda: FewShotClassifier(encoder=encoder()).fit(
            [*TEXTS, long + "euro", long + "post"], [*LABELS, "euro", "post"]
        )
    )
    assert any("cannot tell some inputs" in each for each in said)
    assert not any("two classes" in each for each in said)


def test_one_text_under_two_classes_is_still_that():
    with pytest.warns(UserWarning, match="given under two classes"):
        FewShotClassifier(encoder=encoder()).fit([*TEXTS, TEXTS[0]], [*LABELS, "rate"])


def test_one_empty_text_does_not_fail_the_whole_call(fitted):
    asked = [*TEXTS, *NOTHING, TEXTS[3]]
    right = fitted.predict_proba([*TEXTS, TEXTS[3]])
    with pytest.warns(UserWarning, match="cannot read 4 of 11 inputs, such as input 6"):
        found = fitted.predict_proba(asked)
    np.testing.assert_allclose(np.delete(found, range(6, 10), 0), right, atol=1e-6)
    np.testing.assert_allclose(found[6:10], [[4 / 7, 3 / 7]] * 4, atol=1e-6)
    with pytest.warns(UserWarning, match="cannot read"):
        assert fitted.predict(asked)[6:10].tolist() == ["card"] * 4
    with pytest.warns(UserWarning, match="cannot read"):
        sets = fitted.predict_set(asked, 0.5)
    assert [each.tolist() for each in sets[6:10]] == [["card", "rate"]] * 4
    with pytest.warns(UserWarning, match="cannot read"):
        assert set(fitted.suggest([*NOTHING, "euro rate"], 2)[:1]) == {4}
    with pytest.warns(UserWarning, match="cannot read"):
        reasons = fitted.explain("")
    assert not reasons.supporting
    assert "cannot read" in reasons.meaning


def test_only_texts_of_nothing(fitted):
    with pytest.warns(UserWarning, match="4 of 4"):
        assert fitted.predict(NOTHING, keep=True).tolist() == [None] * 4


def test_a_loaded_classifier_answers_alike(fitted, tmp_path):
    named = FewShotClassifier(
        encoder=encoder().requires_grad_(False), inputs=words(), class_names=False
    )
    named.fit(TEXTS[:5], LABELS[:5]).save(tmp_path / "a.qs")
    again = FewShotClassifier.load(tmp_path / "a.qs")
    with pytest.warns(UserWarning, match="cannot read"):
        np.testing.assert_allclose(again.predict_proba(["", TEXTS[0]])[0], [3 / 5, 2 / 5])


def test_marks_are_a_text_and_what_is_left_of_one_is_not():
    inputs = words()
    rows = torch.stack([inputs.decode(text) for text in ("! .", "ካርዴ !", "ካርዴ card", "card")])
    assert inputs.unread(rows).tolist() == [False, True, False, False]


def test_a_tokenizer_of_bytes_knows_everything():
    inputs = TextInputs.learned(TEXTS, vocabulary=300, length=32)
    rows = torch.stack([inputs.decode(text) for text in UNREAD])
    assert not inputs.unread(rows).any()


def test_a_prompt_before_each_text_is_none_of_it():
    tokenizer = Tokenizer.from_str(words().tokenizer)
    unknown = UnknownTexts(tokenizer, "card rate")
    numbers = [tokenizer.encode(text).ids for text in ("card rate ካርዴ", "card rate card")]
    rows = torch.tensor([[*each] for each in numbers]) + 1
    assert unknown.rows(rows).tolist() == [True, False]


class Dividing(nn.Module):
    """Divides by the length of its input, as careless networks do."""

    def forward(self, x):
        return x / x.norm(dim=1, keepdim=True)


def test_vectors_that_are_no_numbers():
    X = np.random.default_rng(0).normal(size=(6, 4))
    classifier = FewShotClassifier(encoder=Dividing()).fit(X, LABELS)
    with pytest.warns(UserWarning, match="cannot read 1 of 2 inputs, such as input 0"):
        found = classifier.predict(np.stack([np.zeros(4), X[0]]), keep=0.99)
    assert found[0] is None
    X[2] = 0
    with pytest.raises(ValueError, match=r"NaN or infinity for input 2 \(1 of 6"):
        FewShotClassifier(encoder=Dividing()).fit(X, LABELS)
