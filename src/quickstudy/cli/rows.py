"""Answers of ``quickstudy predict`` as lines of text, written while more are computed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from quickstudy.cli.tables import tsv

Form = Literal["terminal", "tsv", "csv", "json", "jsonl"]

Row = dict[str, Any]

_WIDEST_LABEL = 24
_WIDEST_SET = 24


class Rows:
    """Writes rows in one form.

    Args:
        form: "terminal" for people; "json" is one list, "jsonl" an object a line.
        columns: columns of every form but JSON, which holds everything.
        ascii: whether JSON escapes all other characters.
    """

    def __init__(self, form: Form, columns: Sequence[str], ascii: bool = False) -> None:
        self.form = form
        self.columns = columns
        self.ascii = ascii
        self.count = 0
        self.widths: dict[str, int] = {}

    def head(self) -> str:
        """The text before the first row."""
        if self.form == "tsv":
            return f"{tsv(self.columns)}\n"
        return _csv(self.columns) if self.form == "csv" else ""

    def text(self, rows: Sequence[Row]) -> str:
        """Some rows."""
        lines = []
        titles = self._fitted(rows) if self.form == "terminal" else ""
        for row in rows:
            values = [row[column] for column in self.columns]
            if self.form == "tsv":
                lines.append(f"{tsv(values)}\n")
            elif self.form == "csv":
                lines.append(_csv(values))
            elif self.form == "terminal":
                lines.append(self._aligned(_for_people(row)))
            else:
                before = "" if self.form == "jsonl" else ",\n" if self.count else "[\n"
                after = "\n" if self.form == "jsonl" else ""
                lines.append(before + json.dumps(row, ensure_ascii=self.ascii) + after)
            self.count += 1
        return titles + "".join(lines)

    def tail(self) -> str:
        """The text after the last row."""
        if self.form != "json":
            return ""
        return "\n]\n" if self.count else "[]\n"

    def _fitted(self, rows: Sequence[Row]) -> str:
        """Makes columns wide enough for some more rows; returns the titles before the first."""
        first = not self.widths
        room = shutil.get_terminal_size().columns
        most = {"label": _WIDEST_LABEL, "nearest": _WIDEST_LABEL, "set": _WIDEST_SET}
        shown = [_for_people(row) for row in rows]
        for column in [*self.columns[1:], self.columns[0]]:  # inputs get the room that is left
            longest = max([len(column), *(len(row[column]) for row in shown)])
            width = max(self.widths.get(column, 0), min(longest, most.get(column, longest)))
            self.widths[column] = max(len(column), min(width, room))
            room -= self.widths[column] + 2
        return self._aligned({name: name for name in self.columns}) if first else ""

    def _aligned(self, cells: dict[str, str]) -> str:
        from rich.cells import set_cell_size

        fitted = []
        for column in self.columns:
            text, width = cells[column].replace("\n", " "), self.widths[column]
            if len(text) > width:
                is_path = column == "input" and "/" in text and " " not in text
                text = f"…{text[1 - width :]}" if is_path else f"{text[: width - 1]}…"
            fitted.append(set_cell_size(text, width))
        return "  ".join(fitted).rstrip() + "\n"


def _for_people(row: Row) -> dict[str, str]:
    return {
        "input": row["input"],
        "label": "none" if row["label"] is None else row["label"],
        "probability": f"{row['probability']:.1%}",
        "nearest": row.get("nearest", "") if row["label"] is None else "",
        "set": "{" + ", ".join(row.get("set", ())) + "}",
    }


def _csv(values: Sequence[Any]) -> str:
    text = io.StringIO()
    cells = [
        json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        for value in values
    ]
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
