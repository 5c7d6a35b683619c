"""One contestant in a process of its own: reads a JSON line, works, answers with a JSON line.

The first line says what to do: {"call": "module:function", "problem": file, "settings": {...},
"threads": n}; each later one {"do": "time" | "gradient" | "arithmetic", ...} asks for one unit.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.common.measuring import memory_mib, start_peak, timed
from benchmarks.speed.peers.work import Work


def main() -> None:
    """Answers until the input ends."""
    # Libraries print; what they print must not come between the answers.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for answer in answers_to(json.loads(line) for line in sys.stdin):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def answers_to(requests: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An answer for each request; an error ends it."""
    try:
        work = prepare(next(requests))
        yield {"ready": True}
        for request in requests:
            yield DEEDS[request.pop("do")](work, **request)
    except Exception as error:
        traceback.print_exc()
        yield {"error": f"{type(error).__name__}: {error}"}


def prepare(request: dict[str, Any]) -> Work:
    """What the contestant does, ready to be done."""
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    with np.load(request["problem"]) as stored:
        problem = {name: torch.from_numpy(stored[name]) for name in stored.files}
    module, function = request["call"].split(":")
    work: Work = getattr(importlib.import_module(f"benchmarks.speed.peers.{module}"), function)(
        problem, **request["settings"]
    )
    return work


def timed_once(work: Work) -> dict[str, Any]:
    """One unit: its time, its result, and by how much the peak of resident memory grew."""
    before = start_peak()
    result, seconds = timed(work.run)
    return {"seconds": seconds, "result": result, "grown_mib": memory_mib("VmHWM") - before}


def gradient(work: Work, file: str) -> dict[str, Any]:
    """Stores the latest run's gradient in ``file``."""
    arrays: dict[str, Any] = {name: value.numpy() for name, value in work.gradient().items()}
    np.savez(file, **arrays)
    return {"file": file}


def arithmetic(work: Work) -> dict[str, Any]:
    """The floating-point operations of matrix products and convolutions in one unit."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work.run()
    return {"operations": counter.get_total_flops()}


DEEDS: dict[str, Callable[..., dict[str, Any]]] = {
    "time": timed_once,
    "gradient": gradient,
    "arithmetic": arithmetic,
}

if __name__ == "__main__":
    main()
