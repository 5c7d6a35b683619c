import json
import subprocess
import sys
from pathlib import Path

import pytest

from quickstudy.strategies.catalogue import strategies

from ..builders import command
from .conftest import TINY


def test_compare_ranks_and_resumes(quickstudy, pictures, tmp_path):
    variant = tmp_path / "wide.yaml"
    variant.write_text(
        "strategy: PrototypicalNetwork\nencoder:\n  class_path: MLP\n  init_args:\n"
        "    hidden: [64]\n"
    )
    options = [
        *[word for word in TINY if word not in ("--encoder", "MLP", "--encoder.hidden", "[16]")],
        "--data", pictures, "--test_shots", "[1,2]", "--test_queries", 3, "--episodes", 20,
        "--out", tmp_path / "out",
    ]  # fmt: skip
    words = ["compare", "PrototypicalNetwork", variant, "MAML", *options]
    code, out, err = quickstudy(*words)
    assert code == 0, err
    results = json.loads((tmp_path / "out" / "comparison.json").read_text())
    first = [result["reports"][0]["accuracy"]["mean"] for result in results]
    assert first == sorted(first, reverse=True)
    assert {result["name"] for result in results} == {"PrototypicalNetwork", "wide", "MAML"}
    for report in results[0]["reports"]:  # to compare contenders task by task
        assert sum(report["accuracies"]) / 20 == pytest.approx(report["accuracy"]["mean"])
    assert "3-way 2-shot" in out
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = quickstudy(*words)  # nothing is trained twice
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())[0]["steps"] == 12


def test_compare_without_contenders(quickstudy):
    code, _, err = quickstudy("compare")
    assert code == 2
    assert "Name the strategies" in err


def test_datasets_lists_the_catalogue(quickstudy):
    code, out, _ = quickstudy("datasets")
    assert code == 0
    for name in ("omniglot", "cifar100", "glyphs"):
        assert name in out


def test_strategies_lists_every_strategy_with_its_paper(quickstudy):
    code, out, _ = quickstudy("strategies")
    assert code == 0
    for words in ("PrototypicalNetwork", "MAML", "Hypernetwork", "Finn", "metric", "gradient"):
        assert words in out


def test_the_page_of_strategies_is_up_to_date(quickstudy):
    code, out, _ = quickstudy("strategies", "--markdown")
    assert code == 0
    page = Path(__file__).parents[2] / "docs" / "strategies.md"
    assert out == page.read_text(), "write it again: quickstudy strategies --markdown"


def test_every_strategy_of_the_catalogue_says_what_it_is():
    found = strategies()
    for entry in found:
        assert entry.summary.endswith("."), entry.name
        assert entry.paper, entry.name
    (maml,) = [entry for entry in found if entry.name == "MAML"]
    assert (maml.family, maml.transductive, maml.regression) == ("gradient", "if asked", True)
    assert maml.paper == "Finn, Abbeel, Levine, 2017"
    assert maml.trained_on == "tasks"


def test_help_and_version(quickstudy):
    code, out, _ = quickstudy("--help")
    assert code == 0
    for name in ("train", "evaluate", "compare", "demo", "datasets"):
        assert name in out
    assert quickstudy("--version")[1].startswith("quickstudy ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom quickstudy.cli.help import help_of, usage\n"
        "from quickstudy.cli.usage import COMMANDS\nusage(COMMANDS)\n"
        "any(map(help_of, COMMANDS.values()))\n"
        "assert not {'torch', 'numpy', 'jsonargparse'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_demo_writes_its_picture_and_numbers(quickstudy, tmp_path):
    code, out, err = quickstudy("demo", "--out", tmp_path / "demo", "--steps", 3, "--episodes", 5)
    assert code == 0, err
    assert (tmp_path / "demo" / "demo.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert set(results) == {"trained", "untrained", "pixels, nearest neighbour"}
    assert "20-way 1-shot" in out


@pytest.fixture(scope="module")
def runs(pictures, tmp_path_factory):
    """Two runs on the same data, of different lengths."""
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("one", 2), ("two", 3)):
        words = ["train", "--data", pictures, *TINY, "--steps", steps]
        assert command(*words, "--validation-split", "null", "--out", folder / name) == 0
    return folder


FEW = ["--test_shots", "[1]", "--test_queries", 3, "--episodes", 5]


def test_compare_evaluates_finished_runs(quickstudy, runs, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()}
    words = ["compare", runs / "one", runs / "two", "--out", tmp_path / "both"]
    code, _, err = quickstudy(*words, *FEW)
    assert code == 0, err
    results = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert {(each["name"], each["steps"]) for each in results} == {("one", 2), ("two", 3)}
    reports = [each["reports"][0] for each in results]
    assert reports[0]["data"] == reports[1]["data"]
    assert {(report["ways"], report["seed"]) for report in reports} == {(3, 0)}
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*") if file.is_file()} == before


def test_tables_are_json_if_asked_and_tab_separated_in_a_pipe(quickstudy, runs, tmp_path):
    words = ["compare", runs / "one", runs / "two", "--out", tmp_path / "both", *FEW]
    code, out, err = quickstudy(*words)
    assert code == 0, err
    assert out.splitlines()[0].split("\t")[:2] == ["strategy", "3-way 1-shot"]
    assert len(out.splitlines()) == 3
    records = json.loads(quickstudy(*words, "--json")[1])
    assert {(each["strategy"], each["steps"]) for each in records} == {("one", 2), ("two", 3)}
    words = ["evaluate", runs / "one", "--test-split", "test", "--queries", 3, "--episodes", 5]
    code, out, err = quickstudy(*words)
    assert code == 0, err
    assert dict(line.split("\t") for line in out.splitlines())["episodes"] == "5"
    found = json.loads(quickstudy(*words, "--json")[1])
    assert found["protocol"] == "3-way 1-shot"
    assert "Measured on" in err


@pytest.mark.parametrize("words", [["--json", "FILE"], ["--json=FILE"]])
def test_a_report_is_still_written_where_json_names_a_file(quickstudy, runs, tmp_path, words):
    words = [word.replace("FILE", str(tmp_path / "a.json")) for word in words]
    code, _, err = quickstudy("evaluate", *words, runs / "one", "--queries", 3, "--episodes", 5)
    assert code == 0, err
    assert "--json FILE is now --report FILE" in err
    assert json.loads((tmp_path / "a.json").read_text())["episodes"] == 5


def test_a_run_is_compared_with_a_strategy_on_the_data_of_the_run(quickstudy, runs, tmp_path):
    words = ["compare", runs / "one", "NearestNeighbor", "--out", tmp_path, *FEW]
    code, _, err = quickstudy(*words, *TINY[4:10], "--steps", 1, "--validation-split", "null")
    results = json.loads((tmp_path / "comparison.json").read_text()) if not code else err
    assert {each["name"] for each in results} == {"one", "NearestNeighbor"}, err
    assert len({each["reports"][0]["data"] for each in results}) == 1


def test_runs_on_different_data_need_to_be_told_which(quickstudy, runs, pictures, tmp_path):
    words = ["train", "--data", pictures, *TINY, "--split_seed", 5, "--validation-split", "null"]
    assert quickstudy(*words, "--steps", 1, "--out", tmp_path / "other")[0] == 0
    both = ["compare", runs / "one", tmp_path / "other", "--out", tmp_path / "both", *FEW]
    code, _, err = quickstudy(*both)
    assert (code, "split_seed" in err, "--data" in err) == (2, True, True)
    code, _, err = quickstudy(*both, "--data", pictures, "--split", "0.5,0.25,0.25")
    assert code == 0, err


def test_evaluate_says_which_classes_it_measured(quickstudy, runs, pictures):
    few = ["--queries", 3, "--episodes", 5]
    code, _, err = quickstudy("evaluate", runs / "one", *few)
    assert code == 0, err
    said = "Measured on 4 of the 16 classes (split test of: train 8, validation 4, test 4)."
    assert said in " ".join(err.split())
    with pytest.warns(UserWarning, match="names of classes that the run"):
        code, _, err = quickstudy("evaluate", runs / "one", *few, "--test-split", "all")
    assert code == 0, err
    assert "Measured on 16 of the 16 classes" in err
    assert "trained on classes with the same names as 8 of these" in err


def test_what_cannot_be_tested_is_refused_before_training(quickstudy, pictures, tmp_path):
    compared = ["compare", "PrototypicalNetwork", "--data", pictures, "--steps", 2]
    for words, said in (
        ([*compared, "--episodes", 1], "at least 2"),
        ([*compared, "--test-split", "exam"], "no split 'exam'"),
        (["demo", "--episodes", 1], "at least 2"),
    ):
        code, _, err = quickstudy(*words, "--out", tmp_path / "out")
        assert code in (1, 2)
        assert said in err
    assert not [*tmp_path.rglob("config.yaml")]
