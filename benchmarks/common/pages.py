"""Parts of the documentation that are written from stored numbers, and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.results import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Pages:
    """Writes what one benchmark adds to pages; the prose around it stays as it is.

    Args:
        benchmark: its name, for the sentence on how to repeat it.
        root: the folder to write to in place of the repository.
    """

    benchmark: str
    root: Path = ROOT

    def splice(self, path: str, marker: str, *blocks: str) -> None:
        """Puts blocks between the lines ``<!-- marker:begin -->`` and ``<!-- marker:end -->``.

        Raises:
            ValueError: if the page lacks these lines.
        """
        begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
        file = self.root / path
        text = (file if file.exists() else ROOT / path).read_text(encoding="utf-8")
        if begin not in text or end not in text:
            raise ValueError(f"{path} lacks the lines {begin} and {end} between which to write.")
        before, after = text.partition(begin)[0], text.partition(end)[2]
        self._save(path, "\n".join([before + begin, "\n\n".join(blocks), end + after]))

    def draw(self, path: str, figure: Figure) -> None:
        """Saves a picture; the same numbers give the same file."""
        import matplotlib

        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "quickstudy", "svg.fonttype": "path"}):
            figure.savefig(file, metadata={"Date": None})

    def measured_on(self, machines: str | Iterable[str]) -> str:
        """The sentences that end a section: where it was measured and how to repeat it."""
        machine = machines if isinstance(machines, str) else "; ".join(sorted(set(machines)))
        return f"Measured on {machine}. Written by `python -m benchmarks {self.benchmark}`."

    def _save(self, path: str, text: str) -> None:
        from quickstudy.saving.files import write_text_atomically

        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(file, text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
