"""What cannot be used is refused in a sentence that says why."""

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import FewShotClassifier

X = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]
Y = ["a", "a", "b", "b"]


@pytest.fixture
def text_classifier(minilm):
    return FewShotClassifier(encoder=minilm)


def test_one_class_only():
    with pytest.raises(ValueError, match=r"only one class, 'a'"):
        FewShotClassifier().fit(X, ["a"] * 4)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Y[:3], "4 inputs and 3 labels"),
        ([*Y, "c"], "4 inputs and 5 labels"),
        (["a", "a", 1, 1], "one type"),
        ([0.5, 0.1, 0.2, 0.3], "Unknown label type"),
        ([1.0, float("nan"), 2.0, 1.0], "NaN"),
    ],
)
def test_labels_that_do_not_fit(labels, words):
    with pytest.raises(ValueError, match=words):
        FewShotClassifier().fit(X, labels)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(value):
    bad = np.array(X)
    bad[2, 1] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        FewShotClassifier().fit(bad, Y)
    classifier = FewShotClassifier().fit(X, Y)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        classifier.predict(bad)
    images = torch.zeros(4, 3, 8, 8)
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="Input 1 holds NaN or infinity"):
        FewShotClassifier(encoder=torch.nn.Flatten()).fit(images, Y)


def test_nothing_and_single_things():
    with pytest.raises(ValueError, match="no inputs"):
        FewShotClassifier().fit([], [])
    with pytest.raises(ValueError, match="Put it in a list"):
        FewShotClassifier().fit("a text", ["a"])
    with pytest.raises(ValueError, match="dict"):
        FewShotClassifier().fit([{}, {}], ["a", "b"])


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text(text_classifier, text):
    with pytest.raises(ValueError, match="Input 1 is an empty text"):
        text_classifier.fit(["something", text], ["a", "b"])


def test_an_empty_text_file_is_named(text_classifier, tmp_path):
    (tmp_path / "a.txt").write_text(" ")
    with pytest.raises(ValueError, match=r"The file .*a\.txt is an empty text"):
        text_classifier.fit([tmp_path / "a.txt", "something"], ["a", "b"])


def test_one_colour_image_is_not_many_grey_ones(run, split_jpegs):
    classifier = FewShotClassifier(encoder=run).fit(*split_jpegs[0])
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\[20, 30, 3\] looks like one colour image"):
        classifier.predict(image)
    assert len(classifier.predict([image])) == len(classifier.predict(image[None])) == 1


def test_a_class_of_encoders_has_learned_nothing():
    with pytest.raises(ValueError, match="Conv4 is a class of encoders"):
        FewShotClassifier(encoder="Conv4").fit(["a text", "another"], ["a", "b"])


def test_something_else_than_a_text(text_classifier):
    with pytest.raises(ValueError, match="Input 1 is a int"):
        text_classifier.fit(["something", 3], ["a", "b"])


def test_corrupt_and_missing_images(run, split_jpegs, tmp_path):
    (paths, labels), _ = split_jpegs
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(paths[0].read_bytes()[:300])
    for path in (bad, tmp_path / "missing.jpg", str(tmp_path / "missing.png")):
        with pytest.raises(ValueError, match=str(path)):
            FewShotClassifier(encoder=run).fit([*paths, path], [*labels, "x"])


def test_a_header_of_a_hundred_thousand_pixels(run, split_jpegs, tmp_path):
    (paths, labels), _ = split_jpegs
    huge = tmp_path / "huge.gif"
    Image.new("L", (8, 8)).save(huge)
    content = bytearray(huge.read_bytes())
    content[6:10] = b"\xff\xff\xff\xff"  # width and height, 65,535 each
    huge.write_bytes(content)
    with pytest.raises(ValueError, match=r"huge\.gif"):
        FewShotClassifier(encoder=run).fit([*paths, huge], [*labels, "x"])


def test_the_same_input_under_two_classes_is_warned_of(run, split_jpegs, tmp_path):
    (paths, labels), _ = split_jpegs
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(paths[0].read_bytes())
    with pytest.warns(UserWarning, match=r"1 inputs? .*two classes.*copy\.jpg"):
        classifier = FewShotClassifier(encoder=run).fit([*paths, copy], [*labels, "x"])
    with pytest.warns(UserWarning, match="2 inputs"):
        classifier.partial_fit([paths[1]], ["x"])


def test_the_same_input_twice_in_one_class_is_nobodys_concern(recwarn):
    FewShotClassifier().fit([*X, X[0]], [*Y, "a"])
    assert not recwarn.list


def test_labels_of_another_type_later():
    classifier = FewShotClassifier().fit(X, Y)
    with pytest.raises(ValueError, match=r"'a'.*3"):
        classifier.partial_fit([[2.0, 2.0]], [3])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strategy": "PrototypicalNetwrk"}, "PrototypicalNetwork"),
        ({"strategy": 3}, "int"),
        ({"encoder": 3}, "int"),
        ({"device": "cud"}, "'cud' cannot be used"),
        ({"strategy": "EmbeddingStrategy"}, "no strategy"),
    ],
)
def test_arguments_that_mean_nothing(given, words):
    with pytest.raises(ValueError, match=words):
        FewShotClassifier(**given).fit(X, Y)


def test_an_encoder_that_is_nowhere():
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        FewShotClassifier(encoder="nobody/nothing").fit(["a b", "c d"], ["a", "b"])


def test_the_usual_encoder_without_a_network():
    with pytest.raises((FileNotFoundError, ImportError), match=r"MiniLM|pretrained"):
        FewShotClassifier().fit(["a b", "c d"], ["a", "b"])


def test_a_run_with_another_encoder(run):
    with pytest.raises(ValueError, match="leave `encoder` out"):
        FewShotClassifier(encoder=torch.nn.Flatten(), strategy=run).fit(X, Y)


def test_images_of_another_shape():
    classifier = FewShotClassifier(encoder=torch.nn.Flatten())
    classifier.fit(torch.rand(4, 1, 4, 4), Y)
    with pytest.raises(ValueError, match=r"\[16\].*\[25\]"):
        classifier.predict(torch.rand(2, 1, 5, 5))


def test_an_encoder_that_is_adapted_inside_each_task_is_no_encoder_by_itself(maml_run, split_jpegs):
    (paths, labels), _ = split_jpegs
    with pytest.raises(ValueError, match="strategy="):
        FewShotClassifier(encoder=maml_run).fit(paths, labels)
