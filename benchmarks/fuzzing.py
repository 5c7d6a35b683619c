"""Damages files of all kinds at random and reads them, for a given time.

    python benchmarks/fuzzing.py --minutes 5 [--only images sounds] [--seed 0]

Each loader runs in processes of its own with bounded memory, so that a crash of a library is a
finding too and not the end. Writes benchmarks/results/fuzzing.json and its part of
docs/robustness.md; what was found lies in the folder that --keep names.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import RESULTS, ROOT, machine

from quickstudy.saving.files import write_text_atomically

sys.path.insert(0, str(ROOT / "tests"))

PATH = RESULTS / "fuzzing.json"
PAGE = ROOT / "docs" / "robustness.md"
BEGIN, END = "<!-- fuzzing:begin -->", "<!-- fuzzing:end -->"

MENDED = {
    "Found by such files and mended, each with a test": (
        "CSV and TSV with two columns of one name: a KeyError of a library",
        "parquet with strings that are not UTF-8: an error of a library, now one bad example",
        "parquet that asks for more memory than there is, and classifiers with numbers that are "
        "infinite or too large: errors of libraries, found in this run and mended after it",
        "checkpoints and classifiers that describe modules or inputs by something else than names "
        "and arguments: TypeErrors and AttributeErrors",
    ),
    "Found by reading the code beside, mended and tested likewise": (
        "`class_splits.json` nested a hundred thousand deep",
        "parquet with class numbers that have no name",
        "descriptions, and layouts of tensors, that ask for more memory than their weights take",
        "YAML with dates that do not exist, and with aliases that multiply",
        "images of 100 to 180 million pixels, of which Pillow only warns",
        "configurations with a class in a string of YAML, which was imported; the files tried here "
        "name classes in such ways since",
        "YAML whose tags fit no value: a KeyError or an IndexError of a library",
    ),
}

MOST_BYTES = 2 * 2**30
"""Of memory that reading may take, beyond what the libraries themselves do."""


def worker(name: str, seed: int, first: int, seconds: float, folder: str, results: Any) -> None:
    """Tries case after case until the time is over; reports every one that is found."""
    from fuzz.loaders import LOADERS, Found

    loader = next(each for each in LOADERS if each.name == name)
    os.environ["QUICKSTUDY_CACHE"] = f"{folder}/cache"
    os.chdir(folder)
    seeds = Path(folder) / "seeds"
    seeds.mkdir(exist_ok=True)
    loader.seeds(seeds)
    contents = [path.read_bytes() for path in sorted(seeds.iterdir())]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    os.dup2(sys.stdout.fileno(), 2)
    most = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MOST_BYTES
    )
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    number, until = first, time.time() + seconds  # importing everything does not count
    while time.time() < until:
        generator = random.Random(f"{seed} {name} {number}")
        content = loader.damage(generator, generator.choice(contents))
        with tempfile.TemporaryDirectory(dir=folder) as own:
            path = Path(own) / f"file{loader.ending}"
            path.write_bytes(content)
            results.put(("begun", number, None))
            try:
                outcome, words = loader.try_one(path), None
            except Found as found:
                outcome, words = "found", str(found)
        results.put((outcome, number, words))
        number += 1
    results.put(("ended", number, None))


def fuzz(name: str, seed: int, seconds: float) -> dict[str, Any]:
    """Runs a loader for some seconds; a process that dies is replaced."""
    context = multiprocessing.get_context("spawn")
    counts = {"read": 0, "refused": 0}
    found: list[dict[str, Any]] = []
    left, first = seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        while left > 0:
            results = context.SimpleQueue()
            process = context.Process(
                target=worker, args=(name, seed, first, left, folder, results)
            )
            process.start()
            current = started = None
            while process.is_alive() or not results.empty():
                if results.empty():
                    time.sleep(0.01)
                    continue
                outcome, number, words = results.get()
                if outcome == "begun":
                    current, started = number, started or time.time()
                    continue
                current, first = None, number + 1
                if outcome == "found":
                    found.append({"case": number, "what": words})
                elif outcome in counts:
                    counts[outcome] += 1
            process.join()
            if current is not None:
                found.append({"case": current, "what": f"the process ended ({process.exitcode})"})
                first = current + 1
            elif process.exitcode or started is None:
                raise RuntimeError(f"The fuzzing of {name} itself failed.")
            left -= time.time() - (started or 0)
    return {"cases": sum(counts.values()) + len(found), **counts, "found": found}


def page(result: dict[str, Any]) -> str:
    """The part of the documentation."""
    rows = [
        f"| {name} | {each['cases']} | {each['read']} | {each['refused']} | {len(each['found'])} |"
        for name, each in result["loaders"].items()
    ]
    total = sum(each["cases"] for each in result["loaders"].values())
    mended = "\n\n".join(
        f"{what}:\n\n" + "\n".join(f"- {line}" for line in lines)
        for what, lines in result["mended"].items()
    )
    return f"""{BEGIN}
## Files that somebody else has made

Valid files are damaged at random: bytes flipped, lost, doubled and overwritten; in PNG files the
chunks, in tables the cells, in JSON and YAML the values; in classifiers and checkpoints what they
say of themselves, with the checksum set right again, as their author could. Every file must be read
or refused in a sentence of the package, within {result["seconds_a_file"]} seconds and
{result["memory_mib"]} MiB. {total} files in {result["minutes"]:g} minutes (seed {result["seed"]}):

| files | tried | read | refused | anything else |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

{mended}

{result["machine"]}. Written by `python benchmarks/fuzzing.py`.
{END}
"""


def put_on_page(part: str) -> None:
    """Writes the part into the page, in place of an older one."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# How hard it is to break\n\n"
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begin else ""
    if before and not before.endswith("\n\n"):
        before = before.rstrip("\n") + "\n\n"
    write_text_atomically(PAGE, before + part + ("\n" + after if after else ""))


def main(words: Sequence[str] | None = None) -> None:
    """Fuzzes, prints and writes."""
    from fuzz.loaders import LOADERS, MOST_SECONDS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="in all")
    parser.add_argument("--only", nargs="+", default=[each.name for each in LOADERS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args(words)
    loaders = {}
    for name in options.only:
        loaders[name] = fuzz(name, options.seed, 60 * options.minutes / len(options.only))
        print(name, {k: v for k, v in loaders[name].items() if k != "found"}, flush=True)
        for each in loaders[name]["found"]:
            print("   ", each["case"], each["what"][:300], flush=True)
    if options.dry:
        return
    result = {
        "minutes": options.minutes,
        "seed": options.seed,
        "machine": machine(),
        "seconds_a_file": MOST_SECONDS,
        "memory_mib": MOST_BYTES >> 20,
        "loaders": loaders,
        "mended": MENDED,
    }
    write_text_atomically(PATH, json.dumps(result, indent=2) + "\n")
    put_on_page(page(result))
    print(f"Written to {PATH} and {PAGE}.")


if __name__ == "__main__":
    main()
