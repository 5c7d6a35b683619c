"""The configs that are published with the package: they parse, and every strategy has one."""

from pathlib import Path

import pytest
import yaml

import quickstudy.strategies as package
from quickstudy.cli.options import build_strategy, build_trainer
from quickstudy.cli.parsing import parsed
from quickstudy.cli.reading import read
from quickstudy.cli.usage.training import TRAIN
from quickstudy.runs import load
from quickstudy.strategies.catalogue import strategies

CONFIGS = Path(__file__).parents[2] / "configs"
EVERY = sorted(CONFIGS.glob("*/*.yaml"))
SHAPES = {"TextEncoder": (64,), "AudioGRU": (20480,)}
"""Of the inputs of encoders that do not read photographs."""
OF_IMAGES = [entry for entry in strategies() if getattr(package, entry.name).modality is None]


def options_of(config):
    return parsed(read(TRAIN, ["--config", str(config)]))


@pytest.mark.parametrize("config", EVERY, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_config_makes_its_strategy_and_trainer(config):
    options = options_of(config)
    encoder = options.encoder["class_path"].rpartition(".")[2]
    shape = SHAPES.get(encoder, (3, 32, 32))
    strategy = build_strategy(options, shape, options.ways, classes=64)
    strategy.check_ways(options.ways)
    assert build_trainer(options).steps == options.steps


def test_every_strategy_has_a_config_of_equal_cost():
    named = {
        options_of(config).strategy["class_path"].rpartition(".")[2]
        for config in (CONFIGS / "cifar-fs").glob("*.yaml")
    }
    assert {entry.name for entry in OF_IMAGES} <= named


def test_every_strategy_of_texts_has_a_config():
    named = {
        options_of(config).strategy["class_path"].rpartition(".")[2]
        for folder in ("banking77", "clinc150")
        for config in (CONFIGS / folder).glob("*.yaml")
    }
    assert {entry.name for entry in strategies() if entry not in OF_IMAGES} <= named


def test_runs_of_equal_cost_take_equal_time():
    for config in (CONFIGS / "cifar-fs").glob("*.yaml"):
        settings = yaml.safe_load(config.read_text())
        minutes, start = settings.get("max_minutes", 0), settings.get("start_from")
        if start:  # the run that it goes on from counts too
            first = CONFIGS / "cifar-fs" / f"{Path(start).name}.yaml"
            minutes += yaml.safe_load(first.read_text())["max_minutes"]
        assert minutes == (3 if config.stem == "pretraining" else 6), config.name
        assert settings["data"] == "cifar-fs"


@pytest.mark.parametrize("entry", OF_IMAGES, ids=lambda entry: entry.name)
def test_every_strategy_trains_and_evaluates_at_the_command_line(
    entry, quickstudy, pictures, tmp_path
):
    words = [
        "--data", pictures, "--strategy", entry.name, "--encoder", "Conv4", "--encoder.channels",
        "4", "--ways", "3", "--shots", "2", "--queries", "2", "--tasks", "2", "--batch_size", "8",
        "--steps", "2", "--validate_every", "2", "--validation_episodes", "2",
        "--validation_queries", "2", "--split", "0.5,0.25,0.25", "--out", tmp_path / "run",
    ]  # fmt: skip
    code, _, err = quickstudy("train", *words)
    assert code == 0, err
    assert type(load(tmp_path / "run").strategy).__name__ == entry.name
    code, out, err = quickstudy(
        "evaluate", tmp_path / "run", "--ways", 3, "--shots", 1, "--queries", 2, "--episodes", 3
    )
    assert code == 0, err
    assert "3-way 1-shot" in out
