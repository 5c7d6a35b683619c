"""CONTRIBUTING.md describes the package as it is."""

import importlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _rooms_of_the_map() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Where things go")[1].split("\n## ")[0]
    return re.findall(r"^    (\w+)/", section, re.MULTILINE)


def test_map_lists_every_room() -> None:
    package = ROOT / "src" / "quickstudy"
    rooms = {folder.name for folder in package.iterdir() if (folder / "__init__.py").exists()}
    assert set(_rooms_of_the_map()) == rooms


def test_map_is_in_the_order_that_imports_keep() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = _rooms_of_the_map()
    assert rooms == [layer for layer in reversed(layers) if layer in rooms]


def test_walks_name_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walks = text.split("## Three walks through the code")[1].split("\n## ")[0]
    stops = re.findall(r"`([\w/]+\.py): (\w+)`", walks)
    assert len(stops) > 20
    for file, name in stops:
        module = "quickstudy." + file.removesuffix(".py").replace("/", ".")
        assert hasattr(importlib.import_module(module), name), f"{file} has no {name}"
