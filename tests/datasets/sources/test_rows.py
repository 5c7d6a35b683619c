"""data_split and where: which rows of tables are read."""

import json

import pytest

from quickstudy.datasets import load_dataset
from quickstudy.datasets.sources.rows import Rows

SPLITS = {"people": {"train": ["ann", "bob"], "test": ["cy"]}, "words": {"train": ["yes"]}}


@pytest.fixture
def sayings(tmp_path):
    """Two words, each said by three people; the texts tell who said what."""
    lines = [
        {"text": f"{word} {person} {age}", "word": word, "speaker": person, "age": age}
        for word in ("no", "yes")
        for person, age in (("ann", 1), ("bob", 2), ("cy", 2))
    ]
    path = tmp_path / "sayings.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "class_splits.json").write_text(json.dumps(SPLITS))
    return path


def test_where_keeps_the_rows_with_one_of_the_values(sayings):
    everything = load_dataset(sayings)
    assert everything.sizes.tolist() == [3, 3]
    some = load_dataset(sayings, where={"speaker": ["cy", "ann"]})
    expected = [
        some.inputs.decode(f"{word} {p}") for word in ("no", "yes") for p in ("ann 1", "cy 2")
    ]
    assert [row.tolist() for row in some.examples] == [row.tolist() for row in expected]
    both = load_dataset(sayings, where={"speaker": ["ann", "bob"], "age": [2]})
    assert both.sizes.tolist() == [1, 1]
    assert load_dataset(sayings, where={"word": ["no"]}).class_names == ("no",)
    assert load_dataset(sayings, where={}).sizes.tolist() == [3, 3]


def test_where_names_a_part_of_a_split_of_another_column(sayings):
    train = load_dataset(sayings, where={"speaker": "people/train"})
    assert train.sizes.tolist() == [2, 2]
    # That split divides people; it is no split of the words.
    assert list(train.published_splits) == ["words"]
    people = load_dataset(sayings, label_column="speaker")
    assert {part: list(names) for part, names in people.published_splits["people"].items()} == (
        SPLITS["people"]
    )
    assert "words" not in people.published_splits


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"speaker": "ann"},
            r"not in class_splits.json.*people/train, people/test.*as a list: \['ann'\]",
        ),
        ({"speaker": "people/exam"}, "not in class_splits.json"),
        ({"speaker": ["ann", "dan"]}, r"No example .* has 'dan' in the column 'speaker' \(1 of 2"),
        ({"speaker": []}, r"where\['speaker'\] is empty"),
        ({"height": ["1"]}, r"no column 'height'"),
    ],
)
def test_values_that_are_not_there_are_refused(sayings, where, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(sayings, where=where)


def test_a_typing_error_in_class_splits_is_still_refused(sayings):
    (sayings.parent / "class_splits.json").write_text('{"words": {"train": ["yes", "noo"]}}')
    with pytest.raises(ValueError, match="names class 'noo'"):
        load_dataset(sayings)
    # Of some rows only, classes may be missing.
    some = load_dataset(sayings, where={"word": ["yes"]})
    assert some.published_splits == {"words": {"train": ["yes"]}}


def test_the_order_in_which_values_are_listed_does_not_matter():
    assert Rows.chosen(None, {"a": ["y", "x"]}, {}) == Rows.chosen(None, {"a": ["x", "y", "x"]}, {})


def test_a_folder_of_files_has_no_rows_to_choose(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("hello")
    for choice in ({"where": {"speaker": ["1"]}}, {"split": "test"}):
        with pytest.raises(ValueError, match=r"no columns, configurations or splits"):
            load_dataset(tmp_path, **choice)
