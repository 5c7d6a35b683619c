"""Damaged files end in a result or a plain error, as in benchmarks/robustness/fuzzing.py."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .loaders import LOADERS

CASES = {"images": 100, "sounds": 60, "texts": 40, "class splits": 60, "classifiers": 40}
"""Of each loader; of the others, which are slower, ten."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """For each loader the contents of its valid files."""
    contents = {}
    for loader in LOADERS:
        folder = tmp_path_factory.mktemp("seeds")
        loader.seeds(folder)
        contents[loader.name] = [path.read_bytes() for path in sorted(folder.iterdir())]
    return contents


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_valid_files_are_read(loader, seeds, tmp_path):
    for number, content in enumerate(seeds[loader.name]):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / f"file{loader.ending}"
        path.write_bytes(content)
        assert loader.try_one(path) == "read"


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_damaged_files_are_read_or_refused_in_a_sentence(loader, seeds, tmp_path_factory):
    outcomes = []

    @settings(
        max_examples=CASES.get(loader.name, 10),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(random=st.randoms(use_true_random=False))
    def check(random):
        content = loader.damage(random, random.choice(seeds[loader.name]))
        path = tmp_path_factory.mktemp("damaged") / f"file{loader.ending}"
        path.write_bytes(content)
        outcomes.append(loader.try_one(path))

    check()
    assert outcomes.count("refused") > 0


@pytest.mark.parametrize("number", [5219, 8330, 8499])
def test_classifiers_with_numbers_too_large_are_refused(number, seeds, tmp_path):
    """As benchmarks/robustness/fuzzing.py found them, with its seed 8."""
    loader = next(each for each in LOADERS if each.name == "classifiers")
    random = Random(f"8 classifiers {number}")
    path = tmp_path / f"file{loader.ending}"
    path.write_bytes(loader.damage(random, random.choice(seeds[loader.name])))
    assert loader.try_one(path) == "refused"
