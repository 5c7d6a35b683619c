"""Runs a benchmark: ``python -m benchmarks accuracy/leaderboard``; lists them without a name."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOMS = ("accuracy", "speed", "robustness", "classifier")


def names() -> dict[str, str]:
    """Every benchmark with the first line of its module's docstring."""
    found = {}
    for room in ROOMS:
        for path in sorted((Path(__file__).parent / room).glob("[a-z]*.py")):
            about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[f"{room}/{path.stem}"] = about.partition("\n")[0]
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Runs the benchmark that the first word names with the options after it.

    With ``--call FUNCTION ARGUMENTS`` it calls one function of the benchmark's module and prints
    its result as JSON: this is how benchmarks start processes of their own.
    """
    name, *rest = (sys.argv[1:] if words is None else list(words)) or ["--help"]
    known = names()
    if name in ("-h", "--help"):
        print("python -m benchmarks NAME [--help] [OPTION ...]\n")
        print("\n".join(f"  {each:<30} {about}" for each, about in known.items()))
        return
    if name not in known:
        raise SystemExit(f"There is no benchmark {name!r}; choose one of {', '.join(known)}.")
    module = importlib.import_module(f"benchmarks.{name.replace('/', '.')}")
    if rest[:1] == ["--call"]:
        print(json.dumps(getattr(module, rest[1])(*json.loads(rest[2]))))
        return
    from benchmarks.common.benchmark import run

    run(name, module.BENCHMARK, rest)


if __name__ == "__main__":
    main()
