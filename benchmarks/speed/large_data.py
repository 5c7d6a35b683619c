"""Episodes from ten million examples, and the memory that decoding takes (Linux only).

Makes a cache file of that many 28x28 images, almost all of it holes that take no room on the disk,
opens it like any cache file, and draws episodes. Then decodes two parquet files of small images,
one four times as large as the other, in processes of their own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.benchmark import Benchmark
from benchmarks.common.machine import machine
from benchmarks.common.measuring import in_a_process, memory_mib, start_peak, timed
from benchmarks.common.pages import Pages, table
from benchmarks.common.results import Results

SIDE, PER_CLASS, DRAWS = 28, 100, 200
TASKS = ((1, 5, 1), (1, 5, 5), (1, 20, 1), (8, 5, 1))
"""Tasks, ways and shots of an episode; 15 queries per class."""

DECODED, STORED_SIDE = (80_000, 320_000), 64
ROW_GROUP = 1000


def write_holes(path: Path, examples: int) -> None:
    """Writes a cache file of black images."""
    classes = examples // PER_CLASS
    about = {
        "class_names": [f"class {number}" for number in range(classes)],
        "sizes": [PER_CLASS] * classes,
        "splits": {},
        "skipped": 0,
        "skipped_names": [],
    }
    shape = [classes * PER_CLASS, 1, SIDE, SIDE]
    size = int(np.prod(shape))
    header = {
        "__metadata__": {key: json.dumps(value) for key, value in about.items()},
        "examples": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]},
    }
    encoded = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + size)


def held() -> dict[str, float]:
    """Memory of this process in MiB: its own, and pages of files, which the system can reclaim."""
    return {"own": memory_mib("RssAnon"), "of_files": memory_mib("RssFile")}


def draw(examples: int) -> dict[str, Any]:
    """Opens a file of that many examples and draws episodes from it."""
    from quickstudy.datasets import ClassDataset
    from quickstudy.datasets.decoded.cache import read_cache
    from quickstudy.episodes import EpisodeSampler
    from quickstudy.inputs import ImageInputs

    inputs = ImageInputs(size=SIDE, channels=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        write_holes(path, examples)
        before, started = held(), time.perf_counter()
        found = read_cache(path)
        dataset = ClassDataset.contiguous(
            found.examples, found.sizes, found.class_names, inputs, "large"
        )
        result: dict[str, Any] = {
            "examples": len(dataset),
            "classes": dataset.classes,
            "gigabytes": path.stat().st_size / 1e9,
            "open_seconds": time.perf_counter() - started,
            "draws": DRAWS,
            "episodes": [],
        }
        opened = held()
        for tasks, ways, shots in TASKS:
            sampler = EpisodeSampler(dataset, ways, shots, 15, tasks=tasks)
            seconds = [timed(partial(sampler.episode, number))[1] for number in range(DRAWS)]
            result["episodes"].append(
                {
                    "tasks": tasks,
                    "ways": ways,
                    "shots": shots,
                    "median_ms": 1000 * statistics.median(seconds),
                    "slowest_ms": 1000 * max(seconds),
                }
            )
        after = held()
        result["open_mib"] = {key: opened[key] - before[key] for key in before}
        result["draw_mib"] = {key: after[key] - opened[key] for key in before}
    return result


def decode(examples: int) -> dict[str, Any]:
    """Decodes a parquet file of that many small images, in which classes are mixed."""
    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    from quickstudy.datasets import load_dataset
    from quickstudy.inputs import ImageInputs

    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QUICKSTUDY_CACHE"] = f"{folder}/cache"
        source = Path(folder) / "data" / "train.parquet"
        source.parent.mkdir()
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema([("image", image), ("label", pa.int64())])
        with parquet.ParquetWriter(source, schema) as writer:
            for start in range(0, examples, ROW_GROUP):
                images = []
                for pixels in generator.integers(0, 256, (ROW_GROUP, SIDE, SIDE), dtype=np.uint8):
                    file = io.BytesIO()
                    Image.fromarray(pixels).save(file, "bmp")
                    images.append({"bytes": file.getvalue(), "path": None})
                labels = [(start + n) * 7919 % 1000 for n in range(ROW_GROUP)]
                writer.write_table(pa.table({"image": images, "label": labels}, schema=schema))
        before = start_peak()
        inputs = ImageInputs(size=STORED_SIDE, channels=1)
        dataset, seconds = timed(lambda: load_dataset(source.parent, inputs=inputs))
        return {
            "examples": len(dataset),
            "parquet_mib": source.stat().st_size / 2**20,
            "cache_mib": dataset.examples.nbytes / 2**20,
            "seconds": seconds,
            "peak_mib": memory_mib("VmHWM") - before,
        }


def measure(options: argparse.Namespace, results: Results) -> None:
    """Measures everything anew."""
    results["machine"] = machine()
    results["drawn"] = in_a_process("speed/large_data", "draw", options.examples)
    results["decoded"] = [in_a_process("speed/large_data", "decode", each) for each in DECODED]
    results.save()


def write(results: Results, pages: Pages) -> None:
    """Puts both sections into the page."""
    drawn = results["drawn"]
    episodes = [
        [
            str(each["tasks"]),
            f"{each['ways']}-way {each['shots']}-shot",
            f"{each['median_ms']:.2f}",
            f"{each['slowest_ms']:.1f}",
        ]
        for each in drawn["episodes"]
    ]
    decoded = [
        [
            str(each["examples"]),
            *(f"{each[part]:.0f}" for part in ("parquet_mib", "cache_mib", "peak_mib", "seconds")),
        ]
        for each in results["decoded"]
    ]
    blocks = [
        f"A cache file of {drawn['examples']} images of {SIDE}x{SIDE} in {drawn['classes']} "
        f"classes ({drawn['gigabytes']:.1f} GB) is opened in {drawn['open_seconds']:.2f} seconds; "
        f"the names and sizes of its classes take {drawn['open_mib']['own']:.0f} MiB of memory. "
        f"The table shows the time per episode over {drawn['draws']} episodes of each kind, with "
        "15 queries per class:",
        table(["tasks", "each", "median, ms", "slowest, ms"], episodes),
        f"Drawing all of them took {drawn['draw_mib']['own']:.0f} MiB more of the process's own "
        f"memory and {drawn['draw_mib']['of_files']:.0f} MiB of pages of the file, which the "
        "system reclaims when it needs memory.",
    ]
    pages.splice("docs/large-data.md", "drawing", *blocks)
    head = ["examples", "parquet, MiB", "cache, MiB", "peak of memory, MiB", "seconds"]
    measured = pages.measured_on(results["machine"])
    pages.splice("docs/large-data.md", "decoding", table(head, decoded), measured)


BENCHMARK = Benchmark(
    measure,
    write,
    ("docs/large-data.md",),
    "about five minutes",
    options={"--examples": {"type": int, "default": 10_000_000, "help": "default: %(default)s"}},
)
