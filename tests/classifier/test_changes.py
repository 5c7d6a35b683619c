"""Classes and examples that are removed or relabelled, and files that remember how they were."""

import json

import numpy as np
import pytest
import torch

from quickstudy import FewShotClassifier
from quickstudy.classifier import history
from quickstudy.classifier.changes import relabelled, removed
from quickstudy.classifier.file import FORMAT
from quickstudy.errors import InputError
from quickstudy.saving.tensor_file import read


def same_answers(one, other, X):
    assert one.classes_.tolist() == other.classes_.tolist()
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    assert [each.tolist() for each in one.predict_set(X, 0.8)] == [
        each.tolist() for each in other.predict_set(X, 0.8)
    ]
    assert one.predict(X, reject=True).tolist() == other.predict(X, reject=True).tolist()
    assert one.model_.support.names == other.model_.support.names
    assert one.temperature_ == other.temperature_


@pytest.fixture(params=["LogisticRegression", "PrototypicalNetwork"])
def strategy(request):
    return request.param


def reloaded(classifier, tmp_path):
    classifier.save(tmp_path / "a.qs")
    return FewShotClassifier.load(tmp_path / "a.qs")


@pytest.mark.parametrize("saved", [False, True])
def test_without_examples_as_if_they_had_never_been(near_blobs, strategy, saved, tmp_path):
    X, y = near_blobs
    classifier = FewShotClassifier(strategy=strategy).fit(X, y)
    if saved:
        classifier = reloaded(classifier, tmp_path)
    gone = [23, 0, 9, 9]
    classifier.remove(examples=gone)
    left = [number for number in range(24) if number not in gone]
    same_answers(classifier, FewShotClassifier(strategy=strategy).fit(X[left], y[left]), X)


def test_without_a_class(near_blobs, strategy, tmp_path):
    X, y = near_blobs
    classifier = reloaded(FewShotClassifier(strategy=strategy).fit(X, y), tmp_path)
    classifier.remove(label="bee")
    left = y != "bee"
    same_answers(classifier, FewShotClassifier(strategy=strategy).fit(X[left], y[left]), X)


def test_with_other_labels(near_blobs, strategy, tmp_path):
    X, y = near_blobs
    classifier = reloaded(FewShotClassifier(strategy=strategy).fit(X, y), tmp_path)
    classifier.relabel("a much longer name", examples=[1, 2, 17]).relabel("zebra", label="ant")
    y = np.where(y == "ant", "zebra", y).astype(object)
    y[[1, 2, 17]] = "a much longer name"
    same_answers(classifier, FewShotClassifier(strategy=strategy).fit(X, y), X)


def test_one_class_joins_another(near_blobs):
    X, y = near_blobs
    classifier = FewShotClassifier().fit(X, y).relabel("cat", label="bee")
    same_answers(classifier, FewShotClassifier().fit(X, np.where(y == "bee", "cat", y)), X)


def test_images_and_whole_numbers(split_jpegs, run):
    (paths, labels), (ask, _) = split_jpegs
    y = np.unique(labels, return_inverse=True)[1]
    classifier = FewShotClassifier(encoder=run).fit(paths, y).remove(label=3)
    classifier.relabel(77, examples=[0])
    left = y != 3
    y = y[left]
    y[0] = 77
    rest = [path for path, kept in zip(paths, left, strict=True) if kept]
    other = FewShotClassifier(encoder=run).fit(rest, y)
    same_answers(classifier, other, ask)
    assert torch.equal(classifier.model_.support.pictures, other.model_.support.pictures)


def test_texts_with_names_of_classes(texts, minilm):
    (learn, y), (ask, _) = texts
    names = np.array([f"topic {label}" for label in y])
    settings = {"encoder": minilm, "class_names": True}
    classifier = FewShotClassifier(**settings).fit(learn, names).relabel("weather", label=names[0])
    other = FewShotClassifier(**settings).fit(learn, np.where(names == names[0], "weather", names))
    same_answers(classifier, other, ask[:5])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.remove(label="dog"), "no class 'dog'"),
        (lambda c: c.remove(label="bees"), "Did you mean 'bee'"),
        (lambda c: c.remove(examples=[24]), "no example 24; the 24 examples"),
        (lambda c: c.remove(examples=[-1]), "no example -1"),
        (lambda c: c.remove(examples=[]), "No examples were named"),
        (lambda c: c.remove(examples=range(16)), "only the class 'cat' would be left"),
        (lambda c: c.remove(examples=range(24)), "no class would be left"),
        (lambda c: c.remove(), "either a class"),
        (lambda c: c.relabel("x", examples=range(24)), "only the class 'x' would be left"),
        (lambda c: c.relabel(3, label="bee"), "use one type"),
    ],
)
def test_what_cannot_be_changed_is_left_as_it_was(blobs, change, said):
    X, y = blobs
    classifier = FewShotClassifier().fit(X, y)
    before = classifier.predict_proba(X)
    with pytest.raises(InputError, match=said):
        change(classifier)
    assert np.array_equal(classifier.predict_proba(X), before)


@pytest.fixture
def file(near_blobs, tmp_path):
    X, y = near_blobs
    FewShotClassifier().fit(X, y).save(tmp_path / "b.qs")
    return tmp_path / "b.qs"


def content(path):
    """All that a file holds, to the bit."""
    header, tensors = read(path, FORMAT)
    del header["strides"]  # those of tensors with gaps are not restored by reading either
    rows = {name: (each.dtype, each.stride(), each.shape) for name, each in tensors.items()}
    return header, rows, {name: each.numpy().tobytes() for name, each in tensors.items()}


def change(path, *numbers, to=None):
    def changed(model):
        new = removed(model, numbers) if to is None else relabelled(model, numbers, to)
        return new, f"Changed {list(numbers)}."

    return history.change_file(path, changed)


def test_undoing_restores_every_bit(file):
    states = [content(file)]
    steps = [((3,), None), ((0, 1), "a new class"), (tuple(range(8, 16)), None), ((5,), "cat")]
    for numbers, to in steps:
        change(file, *numbers, to=to)
        states.append(content(file))
    assert history.changes_of(file) == [f"Changed {list(some)}." for some, _ in reversed(steps)]
    for (numbers, _), state in zip(reversed(steps), reversed(states[:-1]), strict=True):
        assert history.undo(file) == f"Changed {list(numbers)}."
        assert content(file) == state
    with pytest.raises(InputError, match="no change that could be undone"):
        history.undo(file)
    assert content(file) == states[0]


def test_undoing_an_addition(file, near_blobs):
    X, _ = near_blobs
    before = content(file)
    history.change_file(file, lambda model: (model.extended(X[:2], ["dog"] * 2), "Added."))
    _, tensors = read(file, FORMAT)
    assert not [
        name for name in tensors if name.startswith("undo.0.rows.support") and tensors[name].numel()
    ]
    history.undo(file)
    assert content(file) == before


def test_a_file_does_not_remember_more_than_it_holds(file, monkeypatch):
    monkeypatch.setattr(history, "LEAST_ROOM", 0)
    size = file.stat().st_size
    for number in range(14):
        change(file, number, to=f"class {number % 5}")
        header, tensors = read(file, FORMAT)
        parts = {name: each for name, each in tensors.items() if name.startswith("undo.")}
        last = sum(each.nbytes for name, each in parts.items() if name.startswith("undo.0."))
        of_all = sum(each.nbytes for each in parts.values()) + len(json.dumps(header["undo"]))
        assert 1 <= len(header["undo"]) <= history.MOST_CHANGES
        assert of_all <= max(last + 2000, 0.5 * (file.stat().st_size - of_all))
    assert file.stat().st_size < 4 * size


def test_what_is_to_be_forgotten_is_gone(file):
    change(file, 1, to="cat")
    model_bytes = file.stat().st_size
    history.change_file(file, lambda model: (removed(model, [3]), "Removed."), forget=True)
    assert history.changes_of(file) == []
    assert file.stat().st_size < model_bytes


def test_saving_from_python_forgets_changes(file):
    change(file, 1, to="cat")
    FewShotClassifier.load(file).save(file)
    assert history.changes_of(file) == []


def test_a_change_that_fails_leaves_the_file(file):
    before = file.read_bytes()
    with pytest.raises(InputError, match="no example 99"):
        change(file, 99)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_remembered_may_be_damaged(file):
    from quickstudy.saving.tensor_file import write

    change(file, 1, to="cat")
    header, tensors = read(file, FORMAT)
    name = next(name for name in tensors if name.startswith("undo.0.numbers."))
    tensors[name] = tensors[name] + 1000
    write(file, FORMAT, header, tensors)
    before = file.read_bytes()
    with pytest.raises(InputError, match="cannot be read"):
        history.undo(file)
    assert file.read_bytes() == before
