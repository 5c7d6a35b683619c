"""The small data on which the runs were trained."""

import pytest

from ..training.conftest import make_blobs


@pytest.fixture(scope="session")
def parts():
    return make_blobs().split((0.5, 0.25, 0.25))
