"""What a benchmark measured, as JSON that tables are written from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common.machine import machine

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


class Results(dict[str, Any]):
    """The stored numbers of one benchmark; a dictionary that can save itself.

    Args:
        path: the JSON file, which need not exist yet.
        start: the content when there is no file yet, beside this machine's description.
    """

    def __init__(self, path: Path, start: Mapping[str, Any]) -> None:
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        super().__init__(stored or {"machine": machine(), **json.loads(json.dumps(start))})
        self.path = path

    def missing(self, part: str, keys: Iterable[str]) -> Iterator[str]:
        """The keys that ``self[part]`` lacks when their turn comes."""
        return (key for key in keys if key not in self[part])

    def keep(self, part: str, key: str, value: Any) -> None:
        """Adds one measurement, saves the file at once and prints what was found."""
        self[part][key] = value
        self.save()
        print(f"{key}: {json.dumps(value)[:500]}", flush=True)

    def save(self) -> None:
        """Writes the file."""
        write_json(self.path, self)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file in one piece, so that readers never see half of it."""
    from quickstudy.saving.files import write_text_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
