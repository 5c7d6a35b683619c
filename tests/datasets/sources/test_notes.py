"""Notes: found out once, and again where the note is damaged or about something else."""

import pytest

from quickstudy.datasets.sources.notes import remembered


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path))
    return tmp_path / "datasets"


def test_it_is_found_out_once(folder):
    found = iter([{"a": ["ž", 1]}, "something else"])
    for _ in range(3):
        assert remembered({"x": 1}, lambda: next(found)) == {"a": ["ž", 1]}
    assert remembered({"x": 2}, lambda: next(found)) == "something else"
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b'{"value": "b"}', b"[1]", b"\xff"])
def test_a_damaged_note_is_written_again(folder, damage):
    remembered({}, lambda: "a")
    (note,) = folder.iterdir()
    whole = note.read_bytes()
    note.write_bytes(damage)
    assert remembered({}, lambda: "a") == "a"
    assert note.read_bytes() == whole
    note.write_bytes(whole.replace(b'"a"', b'"b"'))
    assert remembered({}, lambda: "a") == "a"
