"""Episodes from ten million examples, and the memory that decoding takes.

    python benchmarks/large_data.py [--examples 10000000]

Makes a cache file of that many 28x28 images on the spot, almost all of it holes that take no room
on the disk, opens it as any cache file is opened, and draws episodes. Then decodes parquet files of
small images, few and four times as many, in processes of their own. Writes
benchmarks/results/large_data.json and its part of docs/large-data.md (Linux only).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import RESULTS, ROOT, machine

from quickstudy.saving.files import write_text_atomically

PATH = RESULTS / "large_data.json"
PAGE = ROOT / "docs" / "large-data.md"
BEGIN, END = "<!-- large-data:begin -->", "<!-- large-data:end -->"

SIDE, PER_CLASS, DRAWS = 28, 100, 200
TASKS = ((1, 5, 1), (1, 5, 5), (1, 20, 1), (8, 5, 1))
"""Tasks, ways and shots of an episode; 15 queries a class."""

DECODED, STORED_SIDE = (80_000, 320_000), 64
ROW_GROUP = 1000


def write_holes(path: Path, examples: int) -> None:
    """A cache file of so many black images."""
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


def memory_mib() -> dict[str, float]:
    """Memory of this process now: its own, and pages of files, which the system takes back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {
        name: int(fields[key].split()[0]) / 1024
        for name, key in (("own", "RssAnon"), ("of_files", "RssFile"))
    }


def draw(examples: int) -> dict[str, Any]:
    """Opens such a file and draws episodes from it."""
    from quickstudy.datasets import ClassDataset
    from quickstudy.datasets.decoded.cache import read_cache
    from quickstudy.episodes import EpisodeSampler
    from quickstudy.inputs import ImageInputs

    inputs = ImageInputs(size=SIDE, channels=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.safetensors"
        write_holes(path, examples)
        before, started = memory_mib(), time.perf_counter()
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
        opened = memory_mib()
        for tasks, ways, shots in TASKS:
            sampler = EpisodeSampler(dataset, ways, shots, 15, tasks)
            seconds = []
            for number in range(DRAWS):
                started = time.perf_counter()
                sampler.episode(number)
                seconds.append(time.perf_counter() - started)
            result["episodes"].append(
                {
                    "tasks": tasks,
                    "ways": ways,
                    "shots": shots,
                    "median_ms": 1000 * statistics.median(seconds),
                    "slowest_ms": 1000 * max(seconds),
                }
            )
        after = memory_mib()
        result["open_mib"] = {key: opened[key] - before[key] for key in before}
        result["draw_mib"] = {key: after[key] - opened[key] for key in before}
    return result


def decode(examples: int) -> dict[str, Any]:
    """Decodes parquet files of so many small images; classes are mixed in them."""
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
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        schema = pa.schema([("image", kind), ("label", pa.int64())])
        with parquet.ParquetWriter(source, schema) as writer:
            for start in range(0, examples, ROW_GROUP):
                images = []
                for pixels in generator.integers(0, 256, (ROW_GROUP, SIDE, SIDE), dtype=np.uint8):
                    file = io.BytesIO()
                    Image.fromarray(pixels).save(file, "bmp")
                    images.append({"bytes": file.getvalue(), "path": None})
                labels = [(start + n) * 7919 % 1000 for n in range(ROW_GROUP)]
                writer.write_table(pa.table({"image": images, "label": labels}, schema=schema))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, started = _peak_mib(), time.perf_counter()
        dataset = load_dataset(source.parent, inputs=ImageInputs(size=STORED_SIDE, channels=1))
        return {
            "examples": len(dataset),
            "parquet_mib": source.stat().st_size / 2**20,
            "cache_mib": dataset.examples.nbytes / 2**20,
            "seconds": time.perf_counter() - started,
            "peak_mib": _peak_mib() - before,
        }


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _in_a_process(what: str, examples: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--only", what, "--examples", str(examples)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def page(result: dict[str, Any]) -> str:
    """The part of the documentation."""
    drawn = result["drawn"]
    rows = [
        f"| {each['tasks']} | {each['ways']}-way {each['shots']}-shot | {each['median_ms']:.2f} | "
        f"{each['slowest_ms']:.1f} |"
        for each in drawn["episodes"]
    ]
    decoded = [
        f"| {each['examples']} | {each['parquet_mib']:.0f} | {each['cache_mib']:.0f} | "
        f"{each['peak_mib']:.0f} | {each['seconds']:.0f} |"
        for each in result["decoded"]
    ]
    return f"""{BEGIN}
## Drawing

A cache file of {drawn["examples"]} images of {SIDE}x{SIDE} in {drawn["classes"]} classes,
{drawn["gigabytes"]:.1f} GB, is opened in {drawn["open_seconds"]:.2f} seconds; the names and sizes
of its classes take {drawn["open_mib"]["own"]:.0f} MiB of memory. {drawn["draws"]} episodes of each
kind, 15 queries a class:

| tasks | each | median, ms | slowest, ms |
| --- | --- | --- | --- |
{chr(10).join(rows)}

Drawing them all took {drawn["draw_mib"]["own"]:.0f} MiB more of its own memory and
{drawn["draw_mib"]["of_files"]:.0f} MiB of pages of the file, which the system takes back when it
needs room. The file was made of holes, so this is the time of drawing and gathering and not that of
a disk, which adds what reading so many separate places takes there.

## Decoding

Parquet files of images in row groups of {ROW_GROUP}, their classes mixed, decoded into the cache as
{STORED_SIDE}x{STORED_SIDE}.
The peak is of the whole process, beyond what it had before:

| examples | parquet, MiB | cache, MiB | peak of memory, MiB | seconds |
| --- | --- | --- | --- | --- |
{chr(10).join(decoded)}

{result["machine"]}. Written by `python benchmarks/large_data.py`.
{END}
"""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--only", choices=("draw", "decode"), help="print as JSON, write nothing")
    options = parser.parse_args()
    if options.only:
        print(json.dumps({"draw": draw, "decode": decode}[options.only](options.examples)))
        return
    result = {
        "machine": machine(),
        "drawn": _in_a_process("draw", options.examples),
        "decoded": [_in_a_process("decode", examples) for examples in DECODED],
    }
    print(json.dumps(result, indent=2))
    write_text_atomically(PATH, json.dumps(result, indent=2) + "\n")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    write_text_atomically(PAGE, before + page(result).rstrip("\n") + rest.partition(END)[2])
    print(f"Written to {PATH} and {PAGE}.")


if __name__ == "__main__":
    main()
