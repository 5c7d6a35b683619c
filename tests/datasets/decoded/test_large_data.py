"""Data that are larger than the memory: the small version of benchmarks/speed/large_data.py."""

import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Memory is measured in /proc.")
def test_episodes_from_ten_million_examples_read_little_and_take_little_memory(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    from benchmarks.common.measuring import in_a_process

    result = in_a_process("speed/large_data", "draw", 10_000_000)
    assert result["examples"] == 10_000_000
    assert result["gigabytes"] > 7.8
    # A pass over the data would map all of their 7500 MiB. An episode reads at most
    # 320 places, a page or two each; the system maps some pages around them too.
    assert result["draw_mib"]["of_files"] < 2000
    assert result["open_mib"]["of_files"] < 200
    assert result["open_mib"]["own"] < 300
    assert result["draw_mib"]["own"] < 100
