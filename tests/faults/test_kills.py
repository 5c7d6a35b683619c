"""Runs that are killed and resumed: the small version of benchmarks/robustness/kills.py."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="There is no SIGKILL.")
def test_killed_runs_end_in_the_same_bits_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.robustness import kills

    found = kills.killed_runs(runs=3, seed=3, folder=tmp_path / "kills")
    assert found.problems == []
    assert found.finished == found.identical == 3
    assert found.left == 0
    assert sum(found.kills.values()) >= 3
