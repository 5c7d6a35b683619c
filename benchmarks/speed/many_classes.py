"""The nearest of 100,000 prototypes: exact in blocks, by the full matrix, and approximate.

Prints a table. Memory is the peak of the process beyond what it held before (Linux only). The
features are artificial: 32 latent dimensions in 640, with classes in families of 100 or without any
groups, which is the worst case for an inverted file.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.machine import machine
from benchmarks.common.measuring import memory_mib, start_peak, timed
from benchmarks.common.pages import Pages
from benchmarks.common.results import Results
from quickstudy.index.approximate_prototype_index import ApproximatePrototypeIndex
from quickstudy.index.prototype_index import PrototypeIndex
from quickstudy.strategies.functional import similarity

LATENT, FAMILY, SHOTS, BATCH, SINGLE = 32, 100, 2, 10_000, 50
PROBES = (1, 4, 16, 64)
ROUNDS = 3  # the fastest counts, because other work may slow down the rest
SEED = 0
GROUPS = ("families", "no groups")


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
        """One example of each of these classes: ``[N, D]``."""
        latent = self.centres[classes] + 0.5 * self.normal(len(classes), LATENT)
        return latent @ self.lift + 0.1 * self.normal(len(classes), self.lift.shape[1])

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The labelled examples, batch by batch."""
        for _ in range(SHOTS):
            for targets in torch.split(torch.arange(len(self.centres)), BATCH):
                yield self.features(targets), targets


def measured(call: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """The result of ``call``, its seconds, and the MiB by which the process grew at most."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # reused memory that was freed would not be counted
    start_peak()
    before = memory_mib()
    result, seconds = timed(call)
    return result, seconds, memory_mib("VmHWM") - before if before else None


def rows(classes: int, dimensions: int, queries: int, families: bool) -> Iterator[dict[str, Any]]:
    """Measures every method; yields one row for each."""
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


SIZES = {"classes": 100_000, "dimensions": 640, "queries": 1000}


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures everything anew."""
    results.clear()
    sizes = {name: getattr(options, name) for name in SIZES}
    about = {"rounds": ROUNDS, "machine": machine(), "threads": torch.get_num_threads()}
    results |= {**sizes, "seed": SEED, **about}
    for groups in GROUPS:
        results[groups] = list(rows(**sizes, families=groups == "families"))
        results.save()


def write(results: Results, pages: Pages) -> None:
    """Prints the tables."""
    print(f"{results['machine']}; {results['threads']} threads")
    for groups in GROUPS:
        print(f"\n{groups:<44} queries/s  memory MiB  recall@1  accuracy  build s")
        for row in results[groups]:
            memory = "-" if row["memory_mib"] is None else f"{row['memory_mib']:.0f}"
            print(
                f"{row['method']:<44} {row['queries_per_second']:9.1f} {memory:>11} "
                f"{row['recall_at_1']:9.3f} {row['accuracy']:9.3f} {row['build_seconds']:8.2f}"
            )


BENCHMARK = Benchmark(
    measure,
    write,
    (),
    "some minutes on two cores",
    options={f"--{name}": {"type": int, "default": size} for name, size in SIZES.items()},
)
