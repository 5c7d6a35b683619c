"""Runs that are killed and resumed: the small version of benchmarks/kills.py."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.skipif(sys.platform == "win32", reason="There is no SIGKILL.")
def test_killed_runs_end_in_the_same_bits_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import kills

    found = kills.measure(runs=3, seed=3, folder=tmp_path / "kills")
    assert found.problems == []
    assert found.finished == found.identical == 3
    assert found.left == 0
    assert sum(found.kills.values()) >= 3
    assert "| killed while | times |" in kills.part(
        {"runs": 3, "finished": 3, "identical": 3, "left": 0, "kills": found.kills, "seed": 3}
        | {"machine": "", "seconds": 1.0}
    )
