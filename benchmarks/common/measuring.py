"""Time, ratios within a round, memory, and calls in processes of their own.

Processes without quickstudy (those of other packages) use this module too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ONE_CORE = {"OMP_NUM_THREADS": "1"}


def timed(
    call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[Any, float]:
    """The result of ``call`` and the seconds it took.

    Args:
        call: the work.
        clock: ``time.process_time`` counts the processor time of all threads instead.
    """
    started = clock()
    result = call()
    return result, clock() - started


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """How many times the reference's time was needed, round by round: median, least, largest.

    Both were measured in turns, so that whatever else the machine did affects both.
    """
    found = [a / b for a, b in zip(seconds, reference, strict=True)]
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def memory_mib(field: str = "VmRSS") -> float:
    """A field of /proc/self/status in MiB: VmRSS, VmHWM (peak), RssAnon, RssFile; 0 without it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def start_peak() -> float:
    """Resets the peak of resident memory (Linux); returns the peak now, in MiB.

    Where the peak cannot be reset, it remains that of the whole process.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmHWM")


def in_a_process(
    benchmark: str,
    function: str,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Calls a function of a benchmark in a new process; arguments and result travel as JSON.

    Raises:
        subprocess.CalledProcessError: if the process fails.
    """
    words = ["-m", "benchmarks", benchmark, "--call", function, json.dumps(arguments)]
    done = subprocess.run(
        [sys.executable, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
    )
    return json.loads(done.stdout.splitlines()[-1])
