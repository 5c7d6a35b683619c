import json
import subprocess
import sys
from pathlib import Path

import pytest

from quickstudy.strategies.catalogue import strategies

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
    for command in ("train", "evaluate", "compare", "demo", "datasets"):
        assert command in out
    assert quickstudy("--version")[1].startswith("quickstudy ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom quickstudy.cli.main import usage\nusage()\n"
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
