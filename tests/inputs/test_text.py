"""TextInputs: strings of any language and length to rows of subword numbers."""

import dataclasses
import json
import pickle

import pytest
import torch
from pyarrow import parquet

from quickstudy.inputs import Inputs, TextInputs, UnreadableError, inputs_from_dict
from quickstudy.inputs.text import PADDING

TEXTS = [
    "Where is my new card?",
    "My card has not arrived yet, where is it?",
    "How do I top up my account?",
    "The top up was declined, and my account is empty.",
    "Wo ist meine neue Karte? Meine Karte ist nicht da.",
]


@pytest.fixture(scope="module")
def inputs():
    return TextInputs.learned(TEXTS, vocabulary=320, length=24)


def text_of(inputs, row):
    """What the subwords in a row spell."""
    from tokenizers import Tokenizer, decoders

    tokenizer = Tokenizer.from_str(inputs.tokenizer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.decode([number - 1 for number in row.tolist() if number]).strip()


def test_a_text_is_a_row_of_numbers_with_padding_behind_it(inputs):
    row = inputs.decode("my new card")
    assert row.dtype == torch.int32
    assert row.shape == (24,)
    used = int((row != PADDING).sum())
    assert 3 <= used < 24
    assert (row[:used] > 0).all()
    assert (row[used:] == PADDING).all()
    assert text_of(inputs, row) == "my new card"


@pytest.mark.parametrize(
    "text",
    [
        "私のカードはどこですか",
        "Где моя карта?",
        "أين بطاقتي",
        "naïve — café",
        "💳➡️🏠",
        "\x00\x07a",
    ],
)
def test_any_language_is_read_without_unknown_subwords(text):
    inputs = TextInputs.learned(TEXTS, vocabulary=257, length=200)
    row = inputs.decode(text)
    assert 0 < int(row.max()) < inputs.vocabulary
    assert text_of(inputs, row) == text.lower()


def test_frequent_words_become_one_subword():
    inputs = TextInputs.learned(TEXTS, vocabulary=400, length=24)
    assert int((inputs.decode("card") != PADDING).sum()) == 1
    assert int((inputs.decode("xylophone") != PADDING).sum()) > 3


def test_forms_of_a_character_white_space_and_case_make_no_difference(inputs):
    expected = inputs.decode("fine card 1")
    for same in ("ﬁne card 1", "  Fine\n\tCARD   ① ", b"fine card 1", b"\xef\xbb\xbffine card 1"):
        assert torch.equal(inputs.decode(same), expected)
    cased = TextInputs.learned(TEXTS, vocabulary=320, length=24, lowercase=False)
    assert not torch.equal(cased.decode("Card"), cased.decode("card"))
    assert text_of(cased, cased.decode("My Card")) == "My Card"


def test_a_long_text_is_cut_at_its_end(inputs):
    beginning = "where is my card? "
    long = inputs.decode(beginning * 10)
    assert (long != PADDING).all()
    assert torch.equal(inputs.decode(beginning * 100_000), long)
    longer = TextInputs(inputs.tokenizer, length=400).decode(beginning * 10)
    assert torch.equal(longer[:24], long)


def test_a_word_that_looks_like_padding_is_a_word(inputs):
    row = inputs.decode("[PAD] <pad> </s>")
    assert text_of(inputs, row) == "[pad] <pad> </s>"


def test_networks_read_int64(inputs):
    stored = torch.stack([inputs.decode(text) for text in TEXTS])
    prepared = inputs.prepare(stored)
    assert prepared.dtype == torch.int64
    assert torch.equal(prepared, stored.long())


@pytest.mark.parametrize("raw", ["", "   ", "\n\t", b"", "\u200b\ufeff", "\u00a0"])
def test_empty_and_blank_texts_are_refused(inputs, raw):
    with pytest.raises(UnreadableError, match="empty or blank"):
        inputs.decode(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (3, "given as int"),
        (None, "given as NoneType"),
        (["a"], "given as list"),
        (b"\xff\xfe", "not text in UTF-8"),
        ("a\ud800", "half of a character"),
    ],
)
def test_what_is_no_text_is_refused(inputs, raw, why):
    with pytest.raises(UnreadableError, match=why):
        inputs.decode(raw)
    with pytest.raises(UnreadableError, match=why):
        TextInputs.learned(["a text", raw])


def test_the_same_texts_give_the_same_subwords_in_any_order(inputs):
    assert TextInputs.learned(iter(TEXTS), vocabulary=320, length=24) == inputs
    assert TextInputs.learned(reversed(TEXTS), vocabulary=320, length=24) == inputs
    assert TextInputs.learned([*TEXTS, " ", ""], vocabulary=320, length=24) == inputs
    assert TextInputs.learned(TEXTS[:3], vocabulary=320, length=24) != inputs


@pytest.mark.parametrize("vocabulary", [257, 300, 8192])
def test_every_number_is_below_the_vocabulary_which_is_no_larger_than_asked(vocabulary):
    inputs = TextInputs.learned(TEXTS, vocabulary=vocabulary)
    assert 257 <= inputs.vocabulary <= vocabulary
    highest = max(json.loads(inputs.tokenizer)["model"]["vocab"].values())
    assert highest + 1 == inputs.vocabulary - 1


def test_a_description_in_json_makes_it_again(inputs):
    description = json.loads(json.dumps(inputs.to_dict()))
    again = inputs_from_dict(description)
    assert isinstance(again, Inputs)
    assert again == inputs
    assert torch.equal(again.decode(TEXTS[0]), inputs.decode(TEXTS[0]))


def test_it_is_a_value(inputs):
    assert hash(inputs) == hash(TextInputs(inputs.tokenizer, 24))
    assert inputs != TextInputs(inputs.tokenizer, 25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        inputs.length = 3
    pickled = pickle.dumps(inputs)
    assert len(pickled) < len(inputs.tokenizer.encode()) + 500  # nothing that is cached
    again = pickle.loads(pickled)
    assert again == inputs
    assert torch.equal(again.decode("my card"), inputs.decode("my card"))
    assert len(repr(inputs)) < 100


@pytest.mark.parametrize("tokenizer", ["", "hello", "{}", '{"model": {"type": "none"}}'])
def test_a_string_that_is_no_tokenizer_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"not the JSON that Tokenizer.to_str"):
        TextInputs(tokenizer)


def test_a_tokenizer_of_another_make_is_taken_with_its_own_padding_ignored():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"card": 0, "top": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.enable_padding(length=9, pad_id=1)
    words.enable_truncation(2)
    inputs = TextInputs(words.to_str(), length=5)
    assert inputs.vocabulary == 4
    assert inputs.decode("top card card up").tolist() == [2, 1, 1, 3, PADDING]


def test_settings_that_make_no_sense_are_refused(inputs):
    with pytest.raises(ValueError, match="1 to 1048576 may be read"):
        TextInputs(inputs.tokenizer, length=0)
    with pytest.raises(ValueError, match="needs at least 257"):
        TextInputs.learned(TEXTS, vocabulary=256)
    for none in ([], ["", "  "]):
        with pytest.raises(ValueError, match="no texts to learn subwords from"):
            TextInputs.learned(none)


def test_on_real_questions_a_subword_is_most_of_a_word(data_root):
    file = data_root / "banking77" / "train.parquet"
    if not file.exists():
        pytest.skip(f"There is no {file}.")
    texts = parquet.read_table(file)["text"].to_pylist()
    inputs = TextInputs.learned(texts, vocabulary=2048)
    assert inputs.vocabulary == 2048
    rows = torch.stack([inputs.decode(text) for text in texts[:500]])
    subwords = int((rows != PADDING).sum())
    words = sum(len(text.split()) for text in texts[:500])
    assert words < subwords < 1.5 * words
