"""Data that are larger than the memory: the small version of benchmarks/large_data.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "large_data.py"


def measured(*words):
    if sys.platform != "linux":
        pytest.skip("Memory is measured as Linux tells it.")
    done = subprocess.run(
        [sys.executable, BENCHMARK, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_episodes_from_ten_million_examples_read_little_and_take_little_memory():
    result = measured("--only", "draw", "--examples", "10000000")
    assert result["examples"] == 10_000_000
    assert result["gigabytes"] > 7.8
    # A pass over the data would map all of their 7500 MiB. An episode reads at most
    # 320 places, a page or two each; the system maps some pages around them too.
    assert result["draw_mib"]["of_files"] < 2000
    assert result["open_mib"]["of_files"] < 200
    assert result["open_mib"]["own"] < 300
    assert result["draw_mib"]["own"] < 100
