"""What a benchmark is, and the command line that all of them share."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.pages import Pages
from benchmarks.common.results import RESULTS, Results


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; its module's docstring says what it measures.

    Args:
        measure: adds what the results lack and saves them; returns what failed, if anything did.
        write: writes the pages from the results.
        pages: the pages and pictures that it writes, relative to the repository's root.
        takes: how long measuring takes, for ``--help``.
        start: the empty parts of new results.
        options: the benchmark's own options, with the arguments of argparse for each.
        stored: whether the results are one file, benchmarks/results/NAME.json.
    """

    measure: Callable[[argparse.Namespace, Results], str | None]
    write: Callable[[Results, Pages], None]
    pages: tuple[str, ...]
    takes: str
    start: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stored: bool = True


def run(name: str, benchmark: Benchmark, words: Sequence[str]) -> None:
    """Measures what is missing, and writes the pages.

    Raises:
        SystemExit: with what failed.
    """
    file = f"{name.partition('/')[2]}.json"
    options = parser_of(name, benchmark, file).parse_args(words)
    path = (options.out or RESULTS) / file
    if options.table and not path.exists():
        path = RESULTS / file
    results = Results(path, benchmark.start)
    failed = None if options.table else benchmark.measure(options, results)
    pages = Pages(name, options.out) if options.out else Pages(name)
    benchmark.write(results, pages)
    print("\n".join(f"Wrote {pages.root / path}." for path in benchmark.pages))
    if failed:
        raise SystemExit(failed)


def parser_of(name: str, benchmark: Benchmark, file: str) -> argparse.ArgumentParser:
    """The options of a benchmark; its help says what it measures, how long, and what it writes."""
    facts = [inspect.getdoc(inspect.getmodule(benchmark.measure)) or ""]
    facts.append(f"\nMeasuring takes {benchmark.takes}.")
    if benchmark.stored:
        facts.append(f"The numbers are stored in benchmarks/results/{file}.")
    if benchmark.pages:
        facts.append(f"Written from them: {', '.join(benchmark.pages)}.")
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description="\n".join(facts),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    table = "write the pages from the stored numbers without measuring"
    parser.add_argument("--table", action="store_true", help=table)
    out = "store numbers and pages in FOLDER and leave those of the repository as they are"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)
    for option, arguments in benchmark.options.items():
        parser.add_argument(option, **arguments)
    return parser
