"""Learning, predicting and adding, on vectors, texts, images and sounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import quickstudy as qs
from quickstudy import FewShotClassifier
from quickstudy.encoders import Conv4
from quickstudy.episodes import Examples
from quickstudy.inputs import ImageInputs
from quickstudy.inputs.audio import AudioInputs
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.strategies import PrototypicalNetwork


class MeanColour(nn.Module):
    """The mean of each channel."""

    def forward(self, x):
        return x.flatten(2).mean(2)


class Spectrum(nn.Module):
    """Forty magnitudes of half a second at 8 kHz."""

    def forward(self, x):
        return torch.fft.rfft(x).abs()[:, :2000].unflatten(1, (40, 50)).mean(2).log1p()


def test_vectors_of_three_classes(blobs):
    X, y = blobs
    classifier = FewShotClassifier().fit(X[::2], y[::2])
    assert classifier.score(X[1::2], y[1::2]) > 0.9
    assert classifier.classes_.tolist() == ["ant", "bee", "cat"]
    assert {"weight", "bias"} == set(classifier.theta_)
    assert classifier.theta_["weight"].shape == (1, 3, 6)
    tensors = FewShotClassifier().fit(torch.from_numpy(X[::2]), y[::2])
    assert np.array_equal(tensors.predict_proba(torch.from_numpy(X)), classifier.predict_proba(X))


def test_decision_function_orders_classes_as_probabilities_do(blobs):
    X, y = blobs
    classifier = FewShotClassifier().fit(X, y)
    logits, probabilities = classifier.decision_function(X), classifier.predict_proba(X)
    assert (logits.argsort(1) == probabilities.argsort(1)).all()
    two = FewShotClassifier().fit(X[:16], y[:16])
    assert ((two.decision_function(X) > 0) == (two.predict(X) == "bee")).all()


@pytest.mark.parametrize("labels", [["a", "b"], [7, 3], [True, False]])
def test_labels_keep_their_type(labels):
    X = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]
    y = np.repeat(labels, 2)
    classifier = FewShotClassifier().fit(X, y)
    assert classifier.predict(X).dtype == y.dtype
    assert classifier.predict(X).tolist() == y.tolist()


def test_real_texts(minilm, texts):
    (X, y), (asked, answers) = texts
    classifier = FewShotClassifier(encoder=minilm).fit(X, y)
    assert classifier.score(asked, answers) > 0.8  # chance is 0.2
    np.testing.assert_allclose(classifier.predict_proba(asked).sum(1), 1, atol=1e-12)
    assert classifier.model_.support.names == X


def test_the_usual_encoder_of_texts_is_found_by_their_kind(minilm, texts, monkeypatch):
    monkeypatch.setitem(MODALITIES, "text", replace(MODALITIES["text"], model=str(minilm)))
    (X, y), _ = texts
    classifier = FewShotClassifier().fit(X, y)
    assert classifier.model_.parts.reader.name == str(minilm)
    assert classifier.score(X, y) > 0.9


def test_images_in_every_form_are_the_same(split_jpegs, run):
    (paths, labels), (asked, answers) = split_jpegs
    classifier = FewShotClassifier(encoder=run).fit(paths, labels)
    assert classifier.score(asked, answers) > 0.15  # chance is 0.1
    expected = classifier.predict_proba(asked[:4])
    opened = [Image.open(path) for path in asked[:4]]
    forms = [
        [str(path) for path in asked[:4]],
        [path.read_bytes() for path in asked[:4]],
        opened,
        [np.asarray(image) for image in opened],
        np.stack([np.asarray(image) for image in opened]),
        torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in opened]),
    ]
    for form in forms:
        assert np.array_equal(classifier.predict_proba(form), expected)


def test_many_inputs_are_decoded_a_few_at_a_time(split_jpegs, run, monkeypatch):
    (paths, labels), (asked, _) = split_jpegs
    classifier = FewShotClassifier(encoder=run).fit(paths, labels)
    expected = classifier.predict_proba(asked)
    monkeypatch.setattr("quickstudy.classifier.reader.DECODED_AT_ONCE", 16)
    # Encoded in other batches: convolutions round differently.
    np.testing.assert_allclose(classifier.predict_proba(asked), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"Input 20 .*missing"):
        classifier.predict([*asked[:20], "missing.jpg"])


def test_sounds(sounds):
    X = [each for some in sounds.values() for each in some]
    y = np.repeat(list(sounds), 6)
    classifier = FewShotClassifier(encoder=Spectrum(), inputs=AudioInputs(8000, 0.5))
    classifier.fit(X[::2], y[::2])
    assert classifier.score(X[1::2], y[1::2]) > 0.4  # chance is 0.33
    assert classifier.predict([(np.zeros(100, dtype=np.float32), 8000)]).shape == (1,)


def test_a_module_reads_arrays_as_they_are():
    colours = torch.tensor([[1.0, 0, 0], [0, 0, 1]])[torch.arange(12) % 2]
    noise = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = colours[:, :, None, None] + noise
    labels = np.tile(["red", "blue"], 6)
    classifier = FewShotClassifier(encoder=MeanColour()).fit(images, labels)
    assert classifier.score(images.numpy(), labels) == 1


def test_a_run_is_used_as_it_was_trained(split_jpegs, run):
    (paths, labels), (asked, _) = split_jpegs
    loaded = qs.load(run)
    classifier = FewShotClassifier(strategy=loaded, calibrate=False).fit(paths, labels)
    stored = {
        name: torch.stack([loaded.inputs.decode(path) for path in some])
        for name, some in (("support", paths), ("query", asked))
    }
    prepared = {name: loaded.inputs.prepare(some)[None] for name, some in stored.items()}
    targets = torch.from_numpy(np.unique(labels, return_inverse=True)[1])[None]
    with torch.no_grad():
        theta = loaded.strategy.adapt(Examples(prepared["support"], targets), 10)
        expected = loaded.strategy.predict(theta, prepared["query"])[0].softmax(-1)
    # Encoded in other batches: convolutions round differently, by some 1e-6 of the logits.
    np.testing.assert_allclose(classifier.predict_proba(asked), expected.numpy(), atol=1e-4)
    by_path = FewShotClassifier(strategy=run, calibrate=False).fit(paths, labels)
    assert np.array_equal(by_path.predict_proba(asked), classifier.predict_proba(asked))


def test_a_strategy_without_a_fixed_encoder(split_jpegs, maml_run):
    (paths, labels), (asked, answers) = split_jpegs
    classifier = FewShotClassifier(strategy=maml_run).fit(paths[:25], labels[:25])
    assert classifier.score(asked[:25], answers[:25]) >= 0.2  # chance is 0.2
    assert classifier.predict(asked, keep=True).shape == (50,)
    with pytest.raises(ValueError, match=r"5 ways.*10 ways"):
        FewShotClassifier(strategy=maml_run).fit(paths, labels)
    with pytest.raises(ValueError, match=r"5 ways.*6 ways"):
        classifier.partial_fit(paths[25:30], labels[25:30])
    assert len(classifier.classes_) == 5  # what failed has changed nothing


def test_strategies_by_name_class_and_object(blobs):
    X, y = blobs
    forms = ["PrototypicalNetwork", PrototypicalNetwork, PrototypicalNetwork(nn.Identity())]
    answers = [FewShotClassifier(strategy=each).fit(X, y).predict_proba(X) for each in forms]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_an_untrained_strategy_is_warned_of(blobs):
    with pytest.warns(UserWarning, match="no training has set"):
        FewShotClassifier(strategy="FEAT").fit(*blobs)


def test_transductive_strategies_see_all_inputs_of_a_call(blobs):
    X, y = blobs
    classifier = FewShotClassifier(strategy="BDCSPN").fit(X[::2], y[::2])
    together = classifier.predict_proba(X)
    alone = np.concatenate([classifier.predict_proba(X[n : n + 1]) for n in range(len(X))])
    assert np.abs(together - alone).max() > 1e-2
    assert np.array_equal(classifier.predict_proba(X), together)


def test_further_examples_are_as_if_they_had_been_there(blobs):
    X, y = blobs
    whole = FewShotClassifier().fit(X, y)
    parts = FewShotClassifier().fit(X[:12], y[:12])
    parts.partial_fit(X[12:18], y[12:18], classes=["ant", "bee", "cat"])
    parts.partial_fit(X[18:], y[18:])
    assert parts.classes_.tolist() == whole.classes_.tolist()
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))
    with pytest.raises(ValueError, match=r"'cat'.*not among"):
        parts.partial_fit(X[18:], y[18:], classes=["ant", "bee"])


def test_a_new_class_of_texts(minilm, texts):
    (X, y), _ = texts
    classifier = FewShotClassifier(encoder=minilm).fit(X[:16], y[:16])
    classifier.partial_fit(["my cat is hungry", "the dog barks", "feed the fish"], ["pets"] * 3)
    assert classifier.classes_.tolist() == [*np.unique(y[:16]), "pets"]
    assert classifier.predict(["I have a cat and a dog"]).tolist() == ["pets"]
    assert classifier.score(X[:16], y[:16]) > 0.9


def test_answering_an_image_encodes_that_image_once_and_nothing_else(split_jpegs, run, monkeypatch):
    (paths, labels), (new, _) = split_jpegs
    classifier = FewShotClassifier(encoder=run).fit(paths, labels)
    encoded, forward = [], Conv4.forward

    def counted(self, x):
        encoded.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Conv4, "forward", counted)
    for path in new[:3]:
        classifier.predict([path])
    assert encoded == [1, 1, 1]


def test_the_same_seed_gives_the_same(blobs):
    X, y = blobs
    first, second = (FewShotClassifier(random_state=5).fit(X, y) for _ in range(2))
    assert first.temperature_ == second.temperature_
    before = torch.random.get_rng_state()
    FewShotClassifier(random_state=5).fit(X, y).predict(X)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_encoder_is_left_as_it_was():
    encoder = Conv4((3, 16, 16), channels=4).train()
    before = {name: each.clone() for name, each in encoder.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    inputs = ImageInputs(16)
    FewShotClassifier(encoder, inputs=inputs).fit(images, [0, 1] * 3).predict(images)
    assert encoder.training
    assert all(torch.equal(before[name], each) for name, each in encoder.state_dict().items())
