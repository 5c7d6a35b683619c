"""Help, version, completion and former names of options."""

import os
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from quickstudy.cli.help import help_of, usage
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import read
from quickstudy.cli.usage import COMMANDS
from quickstudy.inputs import Augmentation
from quickstudy.training.settings import Settings

from .conftest import TINY


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda each: each.name)
def test_help_fits_the_first_screen_and_help_all_names_every_option(command):
    lines = help_of(command).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    complete = help_of(command, complete=True)
    assert max(map(len, complete.splitlines())) <= 80
    assert all(option.typed in complete for option in command)
    assert not any("_" in option.typed for option in command)


def test_the_list_of_commands_fits_the_first_screen():
    lines = usage(COMMANDS).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize(
    "words", [["train", "--help"], ["train", "-h"], ["help", "train"], ["train", "--ways=2", "-h"]]
)
def test_ways_to_ask_for_help(quickstudy, words):
    code, out, err = quickstudy(*words)
    assert (code, err) == (0, "")
    assert out == help_of(COMMANDS["train"]) + "\n"
    assert len(quickstudy("train", "--help-all")[1]) > 2 * len(out)


def test_help_of_a_class(quickstudy):
    code, out, _ = quickstudy("train", "--strategy.help", "MAML")
    assert code == 0
    assert "--strategy.inner_steps" in out
    assert quickstudy("train", "--strategy", "MAML", "--strategy.help")[1] == out


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_version(quickstudy, word):
    assert quickstudy(word)[1].startswith("quickstudy ")


def test_options_are_the_settings_with_their_defaults():
    options = {each.name: each.default for each in COMMANDS["train"]}
    for field in fields(Settings):
        if field.name not in ("augmentation", "optimizer_options"):
            assert options[field.name] == field.default, field.name
    for field in fields(Augmentation):
        assert options[f"augmentation.{field.name}"] == field.default


def test_former_names_are_accepted_with_one_line(quickstudy, tmp_path):
    words = ["train", "--turns", 2, "--train_part=a", "--validation-part", "b", "--print-config"]
    code, out, err = quickstudy(*words)
    assert code == 0, err
    found = yaml.safe_load(out)
    assert [found[name] for name in ("support_rotations", "train_split", "validation_split")] == [
        2, "a", "b",
    ]  # fmt: skip
    assert err.splitlines() == [
        f"quickstudy: --{old} is now --{new}; the old name works until version 1.0."
        for old, new in (
            ("turns", "support-rotations"),
            ("train-part", "train-split"),
            ("validation-part", "validation-split"),
        )
    ]
    config = tmp_path / "old.yaml"
    config.write_text("turns: 3\nvalidation_part: null\nstrategy:\n  class_path: quickstudy.MAML\n")
    options = parsed(read(COMMANDS["train"], ["--config", str(config)]))
    assert (options.support_rotations, options.validation_split) == (3, None)
    assert options.strategy["class_path"] == "quickstudy.strategies.MAML"
    given = read(COMMANDS["predict"], ["a.qs", "--reject", "b.png"])
    assert (given.options["keep"], given.arguments) == ("0.95", ("a.qs", "b.png"))
    given = read(COMMANDS["predict"], ["a.qs", "b", "--keep=0.8", "--reject"])
    assert given.options["keep"] == "0.8"


def test_options_of_free_names_keep_their_types():
    words = ["--where.speaker", "7", "--where.word", '["1", "2"]', "--optimizer-options.momentum"]
    options = parsed(read(COMMANDS["train"], [*words, "0.9"]))
    assert options.where == {"speaker": "7", "word": ["1", "2"]}
    assert options.optimizer_options == {"momentum": 0.9}


def test_typed_options_override_configurations_wherever_they_stand(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text("ways: 7\naugmentation: {shift: 0.1}\n")
    words = ["--ways", "3", "--config", str(config), "--augmentation.degrees", "5"]
    options = parsed(read(COMMANDS["train"], words))
    assert options.ways == 3
    assert (options.augmentation.shift, options.augmentation.degrees) == (0.1, 5.0)


def test_commands_trigger_no_deprecation_of_ours(pictures, tmp_path):
    words = ["train", "--data", str(pictures), *TINY, "--out", str(tmp_path / "run")]
    for more in (
        [],
        ["--strategy", "WholeHypernetwork", "--strategy.learner", "MLP", "--print-config"],
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:quickstudy", "-c",
             "import warnings\n"
             "warnings.filterwarnings('error', '.*until version 1.0', DeprecationWarning)\n"
             "from quickstudy.cli.main import main; main()", *words, *more],
            env=os.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["strategy"]["class_path"] == "quickstudy.strategies.PrototypicalNetwork"
    assert config["encoder"]["class_path"] == "quickstudy.encoders.MLP"
    printed = yaml.safe_load(done.stdout)["strategy"]["init_args"]["learner"]
    assert printed["class_path"] == "quickstudy.encoders.MLP"


def test_completion_needs_a_library_and_the_name_of_a_shell(quickstudy):
    pytest.importorskip("shtab")
    code, out, err = quickstudy("--print-completion", "bash")
    assert code == 0, err
    assert "--learning-rate" in out
    assert quickstudy("--print-completion", "dos")[0] == 2


def test_without_its_library_completion_says_what_to_install(quickstudy, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, _, err = quickstudy("--print-completion", "bash")
    assert code == 1
    assert "pip install 'quickstudy[completion]'" in err
