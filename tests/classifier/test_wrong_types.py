"""Inputs, labels and arguments of types that nobody meant: taken as they are, or a sentence."""

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import FewShotClassifier
from quickstudy.encoders import Conv4

X = [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]
Y = ["a", "a", "b", "b"]


@pytest.fixture
def fitted():
    return FewShotClassifier().fit(X, Y)


@pytest.mark.parametrize("given", [["a.jpg"] * 4, ["a text"] * 4, [np.zeros((3, 4)), [1.0]] * 2])
def test_a_module_without_inputs_asks_for_them(given):
    encoder = Conv4(input_shape=(3, 32, 32))
    with pytest.raises(ValueError, match=r"encoder Conv4 comes without .* inputs=quickstudy"):
        FewShotClassifier(encoder=encoder).fit(given, Y)


def test_images_that_a_module_cannot_read():
    classifier = FewShotClassifier(encoder=Conv4(input_shape=(3, 32, 32)))
    images = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in range(4)]
    for given in (images, [np.asarray(each) for each in images]):
        with pytest.raises(ValueError, match=r"Conv4 .*\[4, 32, 32, 3\].*uint8.*inputs="):
            classifier.fit(given, Y)


def test_vectors_of_another_width_than_a_module_reads():
    with pytest.raises(ValueError, match=r"Linear .*\[4, 2\] and type torch.float64"):
        FewShotClassifier(encoder=torch.nn.Linear(5, 3)).fit(X, Y)


@pytest.mark.parametrize("encoder", [torch.nn.Linear(2, 3), torch.nn.Flatten()])
def test_whole_numbers_are_read_as_floats(encoder):
    given = np.array(X).round().astype(np.uint8)
    classifier = FewShotClassifier(encoder=encoder)
    as_floats = classifier.fit(given.astype(np.float32), Y).predict_proba(given)
    np.testing.assert_array_equal(classifier.fit(given, Y).predict_proba(given), as_floats)


def test_numbers_of_tokens_stay_whole():
    torch.manual_seed(0)
    encoder = torch.nn.EmbeddingBag(9, 4)
    given = np.array([[1, 2], [1, 3], [7, 8], [6, 8]])
    assert FewShotClassifier(encoder=encoder).fit(given, Y).predict(given).tolist() == Y


@pytest.mark.parametrize("encoder", [None, torch.nn.Flatten()])
@pytest.mark.parametrize("given", [set(Y), frozenset(Y), dict.fromkeys(Y)])
def test_inputs_without_an_order(encoder, given):
    with pytest.raises(ValueError, match=f"A {type(given).__name__} of inputs .* give a list"):
        FewShotClassifier(encoder=encoder).fit(given, ["a", "b"])


def test_inputs_that_come_one_by_one(fitted):
    again = FewShotClassifier().fit(iter(X), Y)
    np.testing.assert_array_equal(again.predict_proba(iter(X)), fitted.predict_proba(X))
    assert again.partial_fit(iter([[2.0, 2.0]]), ["c"]).classes_.tolist() == ["a", "b", "c"]


def test_an_array_without_axes():
    with pytest.raises(ValueError, match=r"single ndarray was given\. Put it in a list"):
        FewShotClassifier().fit(np.array("a text"), ["a"])


@pytest.mark.parametrize("classes", [{"a", "b"}, {"a": 1, "b": 2}.keys(), ("a", "b")])
def test_classes_of_any_collection(classes):
    classifier = FewShotClassifier().partial_fit(X, Y, classes=classes)
    with pytest.raises(ValueError, match="'c' is not among"):
        classifier.partial_fit([[2.0, 2.0]], ["c"], classes=classes)


def of_pandas(dtype):
    return lambda y: pytest.importorskip("pandas").Series(y, dtype=dtype)


@pytest.mark.parametrize("made", [list, of_pandas("string"), of_pandas("category")])
def test_a_label_that_is_missing(made):
    with pytest.raises(ValueError, match="Label 3 is missing"):
        FewShotClassifier().fit(X, made(["a", "a", "b", None]))


def test_a_number_of_suggestions(fitted):
    for n in (1.5, "2", None):
        with pytest.raises(ValueError, match=f"{n!r} suggestions .* whole number"):
            fitted.suggest(X, n)
    assert len(fitted.suggest(X, np.int64(2))) == 2


def test_whether_to_reject(fitted):
    far = [[50.0, 50.0]]
    assert fitted.predict(far, keep=np.True_).tolist() == [None]
    assert fitted.predict(far, keep=np.False_).tolist() != [None]
    with pytest.raises(ValueError, match="keep is 'yes'"):
        fitted.predict(X, keep="yes")


def test_a_table_with_a_column_of_texts(fitted):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"n": range(4), "text": ["one", "two", "three", "four"]})
    for ask in (lambda: FewShotClassifier().fit(table, Y), lambda: fitted.predict(table)):
        with pytest.raises(ValueError, match=r"2 columns.* df\['text'\]"):
            ask()
    numbers = table.assign(text=["1", "2", "3", "4"])
    assert FewShotClassifier().fit(numbers, Y).n_features_in_ == 2


def test_columns_are_forgotten_where_there_are_none():
    pandas = pytest.importorskip("pandas")
    classifier = FewShotClassifier().fit(pandas.DataFrame(X, columns=["b", "c"]), Y)
    classifier.set_params(encoder=torch.nn.Flatten()).fit(torch.rand(4, 1, 3, 3), Y)
    assert not hasattr(classifier, "n_features_in_")
    assert not hasattr(classifier, "feature_names_in_")
    assert "columns" not in classifier.model_.extra


@pytest.mark.parametrize(("given", "kept"), [(7, 7), (np.int64(7), 7), (None, 0)])
def test_a_file_keeps_the_seed(tmp_path, given, kept):
    path = tmp_path / "a.qs"
    FewShotClassifier(random_state=given).fit(X, Y).save(path)
    assert FewShotClassifier.load(path).random_state == kept
