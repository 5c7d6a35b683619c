"""Tables for people, pipes and programs."""

import json

import pytest

from quickstudy.cli.tables import show_facts, show_table, tsv

RECORDS = [
    {"name": "a\tb\nc", "share": 1 / 3, "several": ["x", "y"], "empty": None, "flag": True},
    {"name": "[bold]markup[/bold] " + "long " * 30, "share": 1.0, "several": [], "empty": None,
     "flag": False},
]  # fmt: skip


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("quickstudy.cli.tables.to_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


def test_a_pipe_gets_one_line_per_record_in_full_precision(capsys):
    show_table(RECORDS, title="not for programs")
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "name\tshare\tseveral\tempty\tflag"
    assert first == 'a\\tb\\nc\t0.3333333333333333\t["x", "y"]\t\ttrue'
    assert second.split("\t")[0] == RECORDS[1]["name"]


def test_json_has_the_records_or_more(capsys):
    show_table(RECORDS, json=True)
    assert json.loads(capsys.readouterr().out) == RECORDS
    show_table(RECORDS, json=True, whole={"rows": RECORDS})
    assert json.loads(capsys.readouterr().out) == {"rows": RECORDS}


def test_a_terminal_gets_a_table_of_its_width(capsys, terminal):
    show_table(RECORDS, title="A title", hidden=("empty",), names={"flag": "right?"})
    out = capsys.readouterr().out
    assert "A title" in out
    assert "right?" in out
    assert "[bold]markup" in out
    assert "empty" not in out
    assert "0.3333 " in out
    assert max(map(len, out.splitlines())) <= 80


def test_facts_are_a_table_of_names_and_values_in_a_pipe(capsys):
    show_facts({"accuracy": 0.5, "of": 8})
    assert capsys.readouterr().out == "name\tvalue\naccuracy\t0.5\nof\t8\n"
    show_facts({"accuracy": 0.5}, json=True)
    assert json.loads(capsys.readouterr().out) == {"accuracy": 0.5}


def test_facts_on_a_terminal(capsys, terminal):
    show_facts({"accuracy": 0.51239, "classes": ["a", "b"]}, title="Found")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["accuracy", "0.5124"] in lines
    assert ["classes", "a,", "b"] in lines


def test_no_records_print_nothing(capsys):
    show_table([])
    assert capsys.readouterr().out == ""


def test_a_line_of_values():
    assert tsv([1, None, {"a": 1.5}, "ü"]) == '1\t\t{"a": 1.5}\tü'


def test_datasets_and_strategies_show_one_in_detail(quickstudy):
    code, out, err = quickstudy("datasets", "cifar-fs", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["name"], found["classes"]) == ("cifar100", 100)
    assert found["split cifar-fs"] == "train 64, validation 16, test 20"
    assert "licence" in found
    code, out, err = quickstudy("strategies", "MAML", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "∇ L(support; θ_s)" in found["documentation"]
    (steps,) = [each for each in found["arguments"] if each["argument"].endswith(".inner_steps")]
    assert (steps["type"], steps["default"]) == ("int", "1")
    assert "gradient steps" in steps["help"]


@pytest.mark.parametrize(
    ("words", "meant"), [(("datasets", "omniglott"), "omniglot"), (("strategies", "maml"), "MAML")]
)
def test_unknown_names_are_wrong_usage(quickstudy, words, meant):
    code, out, err = quickstudy(*words)
    assert (code, out) == (2, "")
    assert f"Did you mean '{meant}'?" in err


def test_every_strategy_shows_its_details(quickstudy):
    _, out, _ = quickstudy("strategies", "--json")
    for entry in json.loads(out):
        code, _, err = quickstudy("strategies", entry["name"])
        assert code == 0, err
