"""The nearest of 100,000 prototypes: exact in blocks, by the full matrix, and approximate.

    python benchmarks/many_classes.py

Prints a table and writes benchmarks/results/many_classes.json. Memory is the peak of the process
beyond what it held before (Linux only). The features are made: 32 latent dimensions in 640, with
classes in families of 100 or in no groups at all, which is the worst case of an inverted file.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from results import RESULTS, machine
from torch import Tensor

from quickstudy.index.approximate_prototype_index import ApproximatePrototypeIndex
from quickstudy.index.prototype_index import PrototypeIndex
from quickstudy.strategies.functional import similarity

LATENT, FAMILY, SHOTS, BATCH, SINGLE = 32, 100, 2, 10_000, 50
PROBES = (1, 4, 16, 64)
ROUNDS = 3  # the fastest counts: others may be at work on the machine
SEED = 0


class World:
    """Classes, their examples and queries: random, but the same for the same arguments."""

    def __init__(self, classes: int, dimensions: int, families: bool) -> None:
        self.generator = torch.Generator().manual_seed(SEED)
        self.lift = self.normal(LATENT, dimensions) / math.sqrt(LATENT)
        self.centres = self.normal(classes, LATENT)
        if families:
            parents = self.normal(-(-classes // FAMILY), LATENT)
            self.centres = 0.5 * self.centres + parents.repeat_interleave(FAMILY, 0)[:classes]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        numbers: Tensor = torch.randn(*shape, generator=self.generator)
        return numbers

    def features(self, classes: Tensor) -> Tensor:
        """An example of each of these classes: ``[N, D]``."""
        latent = self.centres[classes] + 0.5 * self.normal(len(classes), LATENT)
        return latent @ self.lift + 0.1 * self.normal(len(classes), self.lift.shape[1])

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The labelled examples, batch by batch."""
        for _ in range(SHOTS):
            for targets in torch.split(torch.arange(len(self.centres)), BATCH):
                yield self.features(targets), targets


def measured(call: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """The result of ``call``, its seconds, and the MiB by which the process grew at most."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if peak.exists():
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is used again would not be seen
        peak.write_text("5")  # the peak starts at what is held now
        before = _kilobytes(status, "VmRSS")
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    grown = (_kilobytes(status, "VmHWM") - before) / 1024 if peak.exists() else None
    return result, seconds, grown


def _kilobytes(status: Path, name: str) -> int:
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def rows(classes: int, dimensions: int, queries: int, families: bool) -> Iterator[dict[str, Any]]:
    """Measures every way; one row each."""
    world = World(classes, dimensions, families)
    index, build = PrototypeIndex(torch.empty(0, dimensions)), 0.0
    for features, targets in world.batches():
        start = time.perf_counter()
        index.add(features, targets)
        build += time.perf_counter() - start
    own = torch.randint(classes, (queries,), generator=world.generator)
    asked = world.features(own)
    index.nearest(asked[:2])  # the first call of a product is slower
    exact = index.nearest(asked).classes[:, 0]

    def row(name: str, call: Callable[[], Tensor], count: int, build: float) -> dict[str, Any]:
        found, seconds, grown = measured(call)
        for _ in range(ROUNDS - 1):
            seconds = min(seconds, measured(call)[1])
        return {
            "method": name,
            "queries_per_second": round(count / seconds, 1),
            "memory_mib": None if grown is None else round(grown, 1),
            "recall_at_1": float((found == exact[:count]).double().mean()),
            "accuracy": float((found == own[:count]).double().mean()),
            "build_seconds": round(build, 2),
        }

    def one_by_one(index: PrototypeIndex | ApproximatePrototypeIndex) -> Tensor:
        return torch.cat(
            [index.nearest(each).classes[:, 0] for each in torch.split(asked[:SINGLE], 1)]
        )

    def by_the_full_matrix() -> Tensor:
        return similarity(asked[None], index.prototypes[None], index.distance)[0].argmax(1)

    yield row("exact", lambda: index.nearest(asked).classes[:, 0], queries, build)
    yield row("exact, one by one", lambda: one_by_one(index), min(SINGLE, queries), build)
    yield row(
        "exact, probabilities",
        lambda: index.log_probabilities(asked).classes[:, 0],
        queries,
        build,
    )
    yield row("full matrix, float32", by_the_full_matrix, queries, build)
    approximate, seconds, grown = measured(lambda: ApproximatePrototypeIndex(index))
    for probes in PROBES:
        approximate.probes = probes
        name = f"approximate, {probes} of {approximate.cells} cells"
        found = row(name, lambda: approximate.nearest(asked).classes[:, 0], queries, seconds)
        yield found | {"build_memory_mib": None if grown is None else round(grown, 1)}
    approximate.probes = 16
    name = f"approximate, 16 of {approximate.cells} cells, one by one"
    yield row(name, lambda: one_by_one(approximate), min(SINGLE, queries), seconds)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=640)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "many_classes.json")
    options = parser.parse_args()
    sizes = (options.classes, options.dimensions, options.queries)
    result: dict[str, Any] = {
        "classes": options.classes,
        "dimensions": options.dimensions,
        "queries": options.queries,
        "seed": SEED,
        "rounds": ROUNDS,
        "machine": machine(),
        "threads": torch.get_num_threads(),
    }
    print(f"{result['machine']}; {result['threads']} threads")
    for kind, families in (("families", True), ("no groups", False)):
        print(f"\n{kind:<44} queries/s  memory MiB  recall@1  accuracy  build s")
        result[kind] = []
        for row in rows(*sizes, families):
            result[kind].append(row)
            memory = "-" if row["memory_mib"] is None else f"{row['memory_mib']:.0f}"
            print(
                f"{row['method']:<44} {row['queries_per_second']:9.1f} {memory:>11} "
                f"{row['recall_at_1']:9.3f} {row['accuracy']:9.3f} {row['build_seconds']:8.2f}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"\nwrote {options.out}")


if __name__ == "__main__":
    main()
