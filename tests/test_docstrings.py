"""The examples in docstrings do what they show."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import quickstudy


def with_examples():
    for found in pkgutil.walk_packages(quickstudy.__path__, "quickstudy."):
        path = Path(getattr(found.module_finder, "path", "")) / found.name.rpartition(".")[2]
        file = path / "__init__.py" if found.ispkg else path.with_suffix(".py")
        if re.search(r"^\s*>>> ", file.read_text(encoding="utf-8"), re.MULTILINE):
            yield found.name


@pytest.mark.parametrize("name", sorted(with_examples()))
def test_examples_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert tried
    assert not failed, "see the captured output"


@pytest.mark.parametrize(
    "name",
    ["ClassDataset", "Episode", "EpisodeSampler", "Trainer", "evaluate", "fit", "load"],
)
def test_public_names_have_examples(name):
    assert ">>> " in getattr(quickstudy, name).__doc__
