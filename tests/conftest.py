"""What all tests share: the folder of real data, and a cache that is not the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

DATA_VARIABLE = "QUICKSTUDY_DATA"
BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder in which omniglot, cifar100 and so on lie."""
    chosen = os.environ.get(DATA_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else BESIDE_THE_PROJECT
    if not folder.is_dir():
        pytest.skip(f"There are no real data: name their folder in {DATA_VARIABLE}.")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Keeps decoded data for all tests of a session, away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("QUICKSTUDY_CACHE", str(folder))
        yield folder
