"""What a command line that names classes makes of their arguments."""

import inspect

import pytest
import yaml

import quickstudy.strategies
from quickstudy.cli.classes import DERIVED
from quickstudy.cli.parsing import parsed, plain
from quickstudy.cli.reading import read
from quickstudy.cli.usage.training import TRAIN
from quickstudy.strategies.catalogue import strategies

NAMES = [entry.name for entry in strategies()]


def arguments_of(*words, config=None):
    chosen = plain(parsed(read(TRAIN, [str(word) for word in words]), config).strategy)
    return chosen["class_path"].rpartition(".")[2], chosen.get("init_args", {})


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_has_its_own_defaults(name):
    signature = inspect.signature(getattr(quickstudy.strategies, name))
    own = {each.name: each.default for each in signature.parameters.values()}
    found = arguments_of("--strategy", name)[1]
    assert {key: own[key] for key in found if isinstance(own[key], int | float | str)} == {
        key: value for key, value in found.items() if isinstance(own[key], int | float | str)
    }
    assert found.keys() <= own.keys() - DERIVED["strategy"]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"ways": 7, "strategy": {"class_path": "MetaBaseline"}}))
    return path


def test_an_argument_of_the_class_in_a_file_is_not_one_of_the_class_that_is_typed(config):
    assert arguments_of("--config", config) == ("MetaBaseline", {"scale": 10.0})
    for words in (["--config", config], [f"--config={config}"]):
        name, arguments = arguments_of(*words, "--strategy", "PrototypicalNetwork")
        assert name == "PrototypicalNetwork"
        assert arguments["scale"] == 1.0
        assert parsed(read(TRAIN, [*map(str, words), "--strategy=R2D2"])).ways == 7
    described = '{"class_path": "PrototypicalNetwork", "init_args": {"scale": 3}}'
    assert arguments_of("--config", config, f"--strategy={described}")[1]["scale"] == 3.0
    of_a_run = {"strategy": {"class_path": "MetaBaseline", "init_args": {"scale": 4.0}}}
    assert arguments_of("--strategy", "R2D2", config=of_a_run)[1]["scale"] == 5.0


def test_arguments_that_are_typed_go_to_the_class_in_the_file(config):
    words = ["--config", config, "--strategy.scale", 2]
    assert arguments_of(*words) == ("MetaBaseline", {"scale": 2.0})
    words = [
        "--config",
        config,
        "--strategy",
        "quickstudy.strategies.MetaBaseline",
        "--strategy.scale",
        2,
    ]
    assert arguments_of(*words) == ("MetaBaseline", {"scale": 2.0})


def test_one_parser_serves_several_times():
    assert arguments_of("--strategy", "MetaBaseline")[1] == {"scale": 10.0}
    assert arguments_of() == ("PrototypicalNetwork", {"distance": "euclidean", "scale": 1.0})
    assert arguments_of("--strategy.scale", 2)[1] == {"distance": "euclidean", "scale": 2.0}


def test_of_two_classes_that_are_typed_the_last_counts_without_arguments_of_the_first():
    words = ["--strategy", "MAML", "--strategy.inner_steps", 3, "--strategy", "MetaBaseline"]
    assert arguments_of(*words) == ("MetaBaseline", {"scale": 10.0})
    assert arguments_of("--strategy.scale", 2, "--strategy", "MetaBaseline")[1] == {"scale": 2.0}
