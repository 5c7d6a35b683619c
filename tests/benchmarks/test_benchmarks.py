"""Every benchmark has a help, and the pages show the stored numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(ROOT)


def run(*words):
    from benchmarks.__main__ import main

    main(words)


def every():
    rooms = [
        ROOT / "benchmarks" / each for each in ("accuracy", "speed", "robustness", "classifier")
    ]
    return [f"{r.name}/{path.stem}" for r in rooms for path in sorted(r.glob("[a-z]*.py"))]


def test_without_a_name_all_benchmarks_are_listed(capsys):
    run()
    printed = capsys.readouterr().out
    assert len(every()) >= 20
    assert all(f"  {name} " in printed for name in every())


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(SystemExit, match="no benchmark 'speed/light'; choose one of accuracy/"):
        run("speed/light")


def test_python_m_benchmarks_runs_from_the_root():
    words = [sys.executable, "-m", "benchmarks"]
    assert (
        "accuracy/results"
        in subprocess.run(words, check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.parametrize("name", every())
def test_help_says_what_is_measured_how_long_it_takes_and_what_is_written(name, capsys):
    with pytest.raises(SystemExit) as ended:
        run(name, "--help")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "Measuring takes" in printed
    assert "--table" in printed
    if name != "speed/many_classes":  # prints its table
        assert "Written from them: " in printed or "docs/" in printed


@pytest.mark.parametrize("name", every())
def test_pages_are_what_the_stored_numbers_give(name, tmp_path):
    run(name, "--table", "--out", str(tmp_path))
    for written in tmp_path.rglob("*.md"):
        page = written.relative_to(tmp_path)
        assert written.read_bytes() == (ROOT / page).read_bytes(), page


def test_only_what_is_missing_is_measured_and_kept_at_once(tmp_path):
    from benchmarks.common.results import Results, read_json

    path = tmp_path / "some.json"
    results = Results(path, {"runs": {}})
    results.keep("runs", "a", {"accuracy": 0.5})
    assert read_json(path)["runs"] == {"a": {"accuracy": 0.5}}
    again = Results(path, {"runs": {}})
    assert list(again.missing("runs", ["a", "b"])) == ["b"]


def test_a_page_without_its_markers_is_refused(tmp_path):
    from benchmarks.common.pages import Pages

    (tmp_path / "page.md").write_text("# Prose\n")
    with pytest.raises(ValueError, match=r"page\.md lacks the lines <!-- numbers:begin -->"):
        Pages("speed/ranks", tmp_path).splice("page.md", "numbers", "1")
    assert (tmp_path / "page.md").read_text() == "# Prose\n"


def test_prose_around_the_markers_stays(tmp_path):
    from benchmarks.common.pages import Pages, table

    before = "before\n<!-- numbers:begin -->\nold\n<!-- numbers:end -->\nafter\n"
    (tmp_path / "page.md").write_text(before)
    Pages("speed/ranks", tmp_path).splice(
        "page.md", "numbers", table(["a", "b"], [["1", "2"]]), "so"
    )
    assert (tmp_path / "page.md").read_text() == (
        "before\n<!-- numbers:begin -->\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nso\n"
        "<!-- numbers:end -->\nafter\n"
    )


def test_means_have_an_interval_unless_there_is_one_value():
    from benchmarks.common.intervals import mean_of, percent

    assert mean_of([3.0]) == "3.0"
    # Student's t for two degrees of freedom is 4.303, and the deviation of 1, 2, 3 is 1.
    assert mean_of([1.0, 2.0, 3.0], "+") == f"+2.0 ± {4.303 / 3**0.5:.1f}"
    assert percent({"mean": 0.5, "ci95": 0.01}, 1) == "50.0 ± 1.0"


def test_ratios_are_taken_within_each_round():
    from benchmarks.common.measuring import ratios

    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_functions_run_in_processes_of_their_own():
    from benchmarks.common.measuring import in_a_process

    name = "accuracy/leaderboard"
    assert in_a_process(name, "machine").startswith(f"{os.cpu_count()} cores of ")
