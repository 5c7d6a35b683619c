"""Files of answers that a killed job has begun and the same job continues."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from quickstudy.cli.rows import Form, Row, Rows
from quickstudy.cli.tables import cell
from quickstudy.errors import InputError
from quickstudy.messages import UsageError
from quickstudy.saving.file_lock import changing
from quickstudy.saving.files import check_writable, write_text_atomically

FORMS: Mapping[str, Form] = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_LOCK_SECONDS = 1.0


class Output:
    """A file of rows to which only the missing rows are added.

    Args:
        file: open at the end of its last whole row.
        rows: how rows are written.
        written: names of the inputs that already have a row, in the order of the file.
        skips: whether unreadable inputs are left out and therefore have no row.
    """

    def __init__(self, file: TextIO, rows: Rows, written: Iterator[str], skips: bool) -> None:
        self.file = file
        self.rows = rows
        self.skips = skips
        self._written = written
        self._next = next(written, None)
        self._key: Callable[[str], str] = cell if rows.form == "tsv" else str

    def already(self, names: Sequence[str]) -> int | None:
        """How many of the next inputs have a row; None if they need no further ones.

        Raises:
            InputError: when the rows belong to other inputs.
        """
        count = 0
        for name in names:
            if self._next is None:
                return count
            if self._key(name) == self._next:
                count += 1
                self._next = next(self._written, None)
            elif not self.skips:
                raise InputError(
                    f"{self.file.name} holds an answer for {self._next[:80]!r} where the input "
                    f"now is {name[:80]!r}: the input is not the one that the job began with. "
                    "Give that one, or choose another --output."
                )
        # Inputs after the last row may have been left out, or not have been reached.
        return count if self._next is None and count < len(names) else None

    def write(self, rows: Sequence[Row]) -> None:
        """Adds rows, which are in the file when this returns."""
        self.file.write(self.rows.text(rows))
        self.file.flush()

    def check_finished(self) -> None:
        """Refuses (InputError) a file with rows beyond the last input."""
        if self._next is not None:
            raise InputError(
                f"{self.file.name} holds an answer for {self._next[:80]!r}, which is not among "
                "the inputs: they are not the ones that the job began with."
            )


@contextmanager
def resumed(
    path: Path, columns: Sequence[str], identity: Mapping[str, Any], skips: bool
) -> Iterator[Output]:
    """A file of answers, begun or continued; removed from the unfinished ones at the end.

    Until the job has finished, ``.NAME.unfinished`` beside the file identifies it.

    Args:
        path: path of the file; its suffix determines the format.
        columns: columns of the rows.
        identity: JSON-ready value that determines the answers.
        skips: whether inputs can lack a row.

    Raises:
        UsageError: when the ending is none of :data:`FORMS`.
        InputError: when the file is of another job, or another process is writing it.
    """
    form = form_of(path)
    check_writable(path)
    job = path.with_name(f".{path.name}.unfinished")
    with changing(path, _LOCK_SECONDS):
        if path.exists():
            _check_same_job(path, job, identity)
        else:
            write_text_atomically(job, json.dumps(identity))
        with path.open("a+b") as whole:
            end = _end_of_rows(whole, form)
            whole.truncate(end)
        with path.open("a", encoding="utf-8", newline="") as file:
            rows = Rows(form, columns)
            if not end:
                file.write(rows.head())
                file.flush()
            written = _inputs_of(path, form, end)
            output = Output(file, rows, written, skips)
            yield output
            output.check_finished()
            os.fsync(file.fileno())
        job.unlink(missing_ok=True)


def form_of(path: Path) -> Form:
    """The form of a file of answers, by its ending.

    Raises:
        UsageError: when it has another ending.
    """
    if path.suffix.lower() not in FORMS:
        raise UsageError(
            f"--output is {str(path)!r}; its name must end in one of {', '.join(FORMS)}, which "
            "says how the answers are written."
        )
    return FORMS[path.suffix.lower()]


def _check_same_job(path: Path, job: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads(job.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} exists, and no unfinished job belongs to it. Choose another --output, or "
            "remove it."
        ) from error
    other = [name for name, value in identity.items() if before.get(name) != value]
    if other:
        raise InputError(
            f"{path} was begun with another {' and another '.join(other)}, so the job cannot "
            "continue. Start it as it was, or choose another --output."
        )


def _end_of_rows(file: Any, form: Form) -> int:
    """The end of the last whole row, in bytes; a killed writer can leave part of another."""
    file.seek(0)
    offset = end = 0
    quoted = False
    for line in file:
        offset += len(line)
        if form == "csv" and line.count(b'"') % 2:
            quoted = not quoted
        if line.endswith(b"\n") and not quoted:
            end = offset
    return end


def _inputs_of(path: Path, form: Form, end: int) -> Iterator[str]:
    """The names of the inputs in the rows before ``end``."""
    if not end:
        return
    with path.open(encoding="utf-8", newline="") as file:
        lines = iter(file.readline, "")
        if form == "csv":
            rows = csv.reader(lines)
            next(rows)
            yield from (row[0] for row in rows)
        elif form == "tsv":
            next(lines)
            yield from (line.partition("\t")[0] for line in lines)
        else:
            yield from (json.loads(line)["input"] for line in lines)
