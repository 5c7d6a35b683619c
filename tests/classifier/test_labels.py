"""Labels as people have them: taken, merged, or refused, and never silently something else."""

import datetime
import decimal
import enum
import fractions
import pathlib
import uuid
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import DataConversionWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer

from quickstudy import FewShotClassifier
from quickstudy.datasets.labels import as_labels, joined
from quickstudy.datasets.spelling import one_spelling, spelt_as

DRAW = np.random.default_rng(0)
MEANS = 4 * DRAW.normal(size=(3, 8))
X = np.repeat(MEANS[:2], 4, 0) + 0.3 * DRAW.normal(size=(8, 8))


class Colour(str, enum.Enum):  # noqa: UP042 # StrEnum says its value where it is cut
    RED = "red"
    REDDISH = "reddish"


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Plain(enum.Enum):
    ONE = 1


def classifier(y, x=X):
    return FewShotClassifier(calibrate=False).fit(x, y)


def test_whole_numbers_in_an_array_of_objects_are_labels():
    found = classifier(np.array([0] * 4 + [1] * 4, dtype=object))
    assert found.classes_.tolist() == [0, 1]
    assert found.predict(X).tolist() == [0] * 4 + [1] * 4
    assert found.score(X, np.array([0] * 4 + [1] * 4, dtype=object)) == 1


@pytest.mark.parametrize("made", [list, lambda y: np.array(y, dtype=object)])
def test_members_of_enumerations_are_their_values(made):
    """Neither cut to the length of another nor called by the member's name."""
    y = [Colour.RED] * 4 + [Colour.REDDISH] * 4
    found = classifier(made(y))
    assert found.classes_.tolist() == ["red", "reddish"]
    assert found.predict(X).tolist() == y
    assert found.score(X, made(y)) == 1
    assert found.score(X, y[::-1]) == 0
    assert as_labels(made([Number.ONE, Number.TWO])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("card", "card "),
        ("caf\u00e9", "cafe\u0301"),
        ("card", "\u00a0card"),
        ("card", "ca\u200brd"),
    ],
)
def test_labels_that_look_the_same_are_one_class_or_warned_of(one, other):
    y = [one, other] * 2 + ["rate"] * 4
    with pytest.warns(UserWarning, match="look the same are treated as one class"):
        found = classifier(y)
    assert found.classes_.tolist() == sorted([one, "rate"])
    assert found.score(X, y) == 1
    with pytest.warns(UserWarning, match="look the same"):
        found.partial_fit(MEANS[:1], [other])
    assert found.classes_.tolist() == sorted([one, "rate"])


def test_labels_that_differ_in_capitals_stay_apart_with_a_warning():
    with pytest.warns(UserWarning, match="'Card' and 'card' differ only in upper"):
        assert len(classifier(["Card"] * 4 + ["card"] * 4).classes_) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(classifier(["A"] * 4 + ["a"] * 4).classes_) == 2  # letters are often classes


def test_joiners_in_emoji_make_other_labels():
    family, three = "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\U0001f469\U0001f467"
    assert spelt_as(np.array([family]), np.array([three])).tolist() == [family]


@pytest.mark.parametrize(
    ("seen", "more"),
    [([True, False], 2), ([0, 1], True), ([0, 1], 2.0), ([0.0, 1.0], 2), (["0", "1"], 2)],
)
def test_truth_values_and_whole_numbers_are_not_mixed(seen, more):
    found = classifier([seen[0]] * 4 + [seen[1]] * 4)
    before = found.classes_.copy()
    with pytest.raises(ValueError, match=r"classes so far .* use one type for all labels"):
        found.partial_fit(MEANS[2:], [more])
    with pytest.raises(ValueError, match="use one type"):
        found.score(MEANS[2:], [more])
    assert found.classes_.dtype == before.dtype
    assert found.classes_.tolist() == before.tolist()


@pytest.mark.parametrize(
    "mixed", [[1, True], [1, 1.0], [True, 1.0], ["1", 1], [np.True_, np.int64(1)]]
)
@pytest.mark.parametrize("made", [list, lambda y: np.array(y, dtype=object)])
def test_labels_of_two_types_in_one_list(mixed, made):
    with pytest.raises(ValueError, match=r"Some labels are .* and some are .*; use one type"):
        classifier(made(mixed * 4))


MANY = {
    "lists": [["a"], ["a", "b"], ["b"], ["b"]] * 2,
    "sets": [{"a"}, {"a", "b"}, {"b"}, {"b"}] * 2,
    "tuples": [("a", "b"), ("a", "b"), ("b", "c"), ("b", "c")] * 2,
    "matrix": [[1, 0], [1, 1], [0, 1], [0, 1]] * 2,
    "one-hot array": np.eye(2)[[0, 0, 1, 1] * 2],
    "tensor": torch.eye(2)[[0, 0, 1, 1] * 2],
    "objects": np.array([["a"], ["a", "b"], ["b"], ["b"]] * 2, dtype=object),
}


@pytest.mark.parametrize("form", MANY)
def test_several_labels_of_an_input_are_refused_in_words(form):
    with pytest.raises(ValueError, match=r"Each input needs one label.*OneVsRestClassifier"):
        classifier(MANY[form])


def test_several_labels_of_a_table_or_a_sparse_matrix():
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    for y in (pandas.DataFrame({"a": [0, 1] * 4, "b": [1, 0] * 4}), sparse.eye(8, 2).tocsr()):
        with pytest.raises(ValueError, match="Each input needs one label"):
            classifier(y)


def test_the_way_out_for_several_labels_works():
    """With vectors, and with pictures that only an encoder reads."""
    rows = MultiLabelBinarizer().fit_transform([{"a"}] * 4 + [{"a", "b"}] * 2 + [{"b"}] * 2)
    found = OneVsRestClassifier(FewShotClassifier(calibrate=False)).fit(X, rows)
    assert found.predict(X).shape == (8, 2)
    assert (found.predict(X)[:4] == [1, 0]).all()
    pictures = torch.rand(8, 1, 4, 4) * 0.1 + torch.arange(8)[:, None, None, None] // 4
    several = OneVsRestClassifier(FewShotClassifier(encoder=torch.nn.Flatten()))
    assert several.fit(pictures, rows).predict(pictures).shape == (8, 2)


@pytest.mark.parametrize("made", [lambda y: [[each] for each in y], lambda y: np.array(y)[:, None]])
def test_a_column_of_labels_is_taken_with_a_warning(made):
    with pytest.warns(DataConversionWarning, match="column-vector"):
        assert classifier(made(["a"] * 4 + ["b"] * 4)).classes_.tolist() == ["a", "b"]


def days():
    return [datetime.datetime(2020, 1, 1)] * 4 + [datetime.datetime(2021, 1, 1)] * 4


@pytest.mark.parametrize("kind", ["datetime", "datetime64", "pandas"])
def test_dates_as_labels_are_refused_at_fit(kind):
    y = days()
    if kind == "datetime64":
        y = np.array(y, dtype="datetime64[D]")
    if kind == "pandas":
        y = pytest.importorskip("pandas").to_datetime(y)
    with pytest.raises(ValueError, match=r"Label 0 is a .*labels are strings"):
        classifier(y)


@pytest.mark.parametrize(
    "label",
    [
        b"a",
        np.bytes_(b"a"),
        decimal.Decimal(1),
        fractions.Fraction(1, 2),
        uuid.UUID(int=1),
        pathlib.Path("a"),
        1j,
        Plain.ONE,
        datetime.date(2020, 1, 1),
        np.timedelta64(1, "D"),
        2**70,
        "\ud800",
        object(),
    ],
)
def test_what_a_file_cannot_hold_is_refused_at_fit(label):
    with pytest.raises(ValueError, match=r"Label \d+ "):
        classifier([label] * 4 + ["b"] * 4)


@pytest.mark.parametrize("label", [None, float("nan"), "", "  ", "\u200b", "\ufeff"])
def test_a_missing_label(label):
    with pytest.raises(ValueError, match="Label 2 is missing"):
        classifier(["a", "b", label, "a"] + ["b"] * 4)


@pytest.mark.parametrize("y", ["abababab", {"a", "b"}, {"a": 1}, 3])
def test_labels_that_are_no_list(y):
    with pytest.raises(ValueError, match=r"The labels are a .*list"):
        classifier(y)


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        ((True, False), "b"),
        ((-3, 2**40), "i"),
        ((2**63, 2**64 - 1), "u"),
        ((1.0, 2.0), "f"),
        (("ab", "abcdefghij"), "U"),
        ((np.str_("x"), "y"), "U"),
    ],
)
def test_labels_are_the_same_after_saving(pair, kind, tmp_path):
    found = classifier([pair[0]] * 4 + [pair[1]] * 4)
    found.save(tmp_path / "a.qs")
    again = FewShotClassifier.load(tmp_path / "a.qs")
    assert found.classes_.dtype.kind == kind
    for each in (found, again):
        assert set(each.predict(X).tolist()) == set(pair)
        assert each.classes_.dtype == found.classes_.dtype
        assert [type(label) for label in each.classes_.tolist()] == [
            type(label) for label in np.array(sorted(pair)).tolist()
        ]


def test_longer_names_and_larger_numbers_later_are_not_cut():
    found = classifier(np.array(["ab"] * 4 + ["cd"] * 4))
    found.partial_fit(MEANS[2:], np.array(["ab but longer"]))
    assert found.predict(MEANS[2:]).tolist() == ["ab but longer"]
    numbers = joined(np.array([1, 2**62 + 1]), np.array([2**63 + 1], dtype=np.uint64))
    assert numbers.tolist() == [1, 2**62 + 1, 2**63 + 1]
    with pytest.raises(ValueError, match="as strings"):
        joined(np.array([-1]), np.array([2**63 + 1], dtype=np.uint64))


@pytest.mark.parametrize("dtype", ["string", "category", "Int64", "boolean"])
def test_columns_of_pandas(dtype):
    pandas = pytest.importorskip("pandas")
    pair = {"Int64": [3, 5], "boolean": [True, False]}.get(dtype, ["a", "b"])
    found = classifier(pandas.Series([pair[0]] * 4 + [pair[1]] * 4, dtype=dtype))
    assert found.predict(X).tolist() == [pair[0]] * 4 + [pair[1]] * 4
    assert found.classes_.dtype.kind in "biUO"


def test_classes_that_are_named_keep_their_type():
    """A string is not among whole numbers that are written like it."""
    with pytest.raises(ValueError, match="one type"):
        FewShotClassifier().partial_fit(X, ["1"] * 4 + ["2"] * 4, classes=[1, 2])


def test_probabilities_sets_and_reasons_name_the_same_labels():
    y = [Colour.RED] * 4 + [Colour.REDDISH] * 4
    found = FewShotClassifier().fit(X, y)
    assert found.explain(X[0]).label == "red"
    assert {str(label) for label in found.predict_set(X, 0.99)[0]} <= {"red", "reddish"}
    best = found.classes_[found.predict_proba(X).argmax(1)]
    assert best.tolist() == found.predict(X).tolist()


def test_one_spelling_is_the_first_one():
    with pytest.warns(UserWarning, match=r"'b ' is the class 'b' \(and 1 more\)"):
        assert one_spelling(np.array(["b", "b ", " b"])).tolist() == ["b"] * 3
