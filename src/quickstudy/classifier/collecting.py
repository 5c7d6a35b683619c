"""Labelled examples and new inputs as people have them: in folders, tables and lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.classifier.incoming import Table, incoming
from quickstudy.classifier.reader import Reader
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.finding import find_source
from quickstudy.datasets.sources.folder import ClassFolders
from quickstudy.datasets.sources.splits import learning_note, training_splits
from quickstudy.errors import InputError, MissingFileError


@dataclass(frozen=True)
class Collected:
    """Examples, not yet read.

    Args:
        raw: what the classifier takes.
        names: what to call them.
        labels: of their classes; none for new inputs.
    """

    raw: list[Any]
    names: list[str]
    labels: list[str]

    def __len__(self) -> int:
        return len(self.raw)

    def readable(self, reader: Reader) -> Collected:
        """The readable examples; a warning for each other one states why it is left out.

        Raises:
            ValueError: when none can be read.
        """
        problems = reader.problems(self.raw)
        for problem in problems.values():
            warnings.warn(f"Left out. {problem}", stacklevel=2)
        kept = [number for number in range(len(self)) if number not in problems]
        if not kept:
            raise InputError(f"None of the {len(self)} inputs can be read. {problems[0]}")
        return Collected(
            [self.raw[number] for number in kept],
            [self.names[number] for number in kept],
            [self.labels[number] for number in kept] if self.labels else [],
        )


def labelled(
    source: Path,
    input_column: str | None = None,
    label_column: str | None = None,
    skip_empty: bool = False,
    split: str | None = None,
) -> Collected:
    """The examples of a folder (a sub-folder per class) or a table (a row per example).

    If the data has splits such as train and test, only the training examples are taken, with a
    warning.

    Args:
        source: a folder of images, sounds or text files, a table (CSV, TSV, JSON lines, parquet)
            of texts or paths, or a folder of tables; as ``load_dataset`` reads them.
        input_column: input column of a table, if that is not clear.
        label_column: label column of a table, if that is not clear.
        skip_empty: leaves out the empty texts of a table, with a warning.
        split: the splits to take, joined by "+"; by default the training splits.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when no examples are found in it, or a text of a table is empty.
    """
    columns = Columns(input_column, label_column)
    if not source.exists():
        raise MissingFileError(f"There is no folder and no table {str(source)!r}.")
    place, _ = find_source(source, None, columns)
    if isinstance(place, ClassFolders) and (input_column or label_column):
        raise InputError(f"{source} is a folder of files, which has no columns to choose.")
    modality = place.modality()
    splits = place.splits(modality)
    used = training_splits(splits)
    if split is not None:
        place = place.chosen(split)
    elif len(used) < len(splits):
        place = place.chosen("+".join(used))
        left = [split for split in splits if split not in used]
        warnings.warn(learning_note(str(source), used, left), stacklevel=2)
    for note in place.notes(modality):
        warnings.warn(note, stacklevel=2)
    with place.read(modality) as found:
        for note in [*found.notes, found.pooling]:
            if note:
                warnings.warn(note, stacklevel=2)
        rows = list(found.rows(0))
        labels = [found.class_names[number] for number in found.class_of_rows()]
    empty = [isinstance(raw, str) and not raw.strip() for _, raw in rows]
    if any(empty):
        first = rows[empty.index(True)][0]
        problem = f"{first} of {source} is empty ({sum(empty)} in all; rows count from 0)"
        if not skip_empty or all(empty):
            raise InputError(
                f"{problem}. Write something there or remove the row; --unreadable skip leaves out "
                "such rows where there are others."
            )
        warnings.warn(f"Left out. {problem}.", stacklevel=2)
        rows = [row for row, is_empty in zip(rows, empty, strict=True) if not is_empty]
        labels = [label for label, is_empty in zip(labels, empty, strict=True) if not is_empty]
    names = [_name(called, raw, source) for called, raw in rows]
    raws = [Path(raw) if modality != "text" and isinstance(raw, str) else raw for _, raw in rows]
    return Collected(raws, names, labels)


def _name(called: str, raw: Any, source: Path) -> str:
    """The name of an example: the text itself, or a file's path inside the source."""
    if isinstance(raw, Path):
        return str(raw.relative_to(source)) if raw.is_relative_to(source) else str(raw)
    return raw if isinstance(raw, str) else called


def new_inputs(words: Sequence[str], modality: str, lines: Iterable[str] = ()) -> Collected:
    """Inputs of one class, all of them read.

    Args:
        words: as :func:`incoming` takes them, tables excepted.
        modality: modality of the inputs that the classifier reads.
        lines: of standard input.

    Raises:
        MissingFileError: when there is no such file.
        InputError: when nothing is found, or a file is a table.
    """
    found = incoming(words, modality)
    for each in found.sources:
        if isinstance(each, Table):
            raise InputError(
                f"{each.path} is a table, and not one input. Give the inputs of its rows one a "
                "line on standard input, with - in its place."
            )
    named = [each for each in found.each([list(lines)]) if each is not None]
    if not named:
        raise InputError("No inputs were given.")
    return Collected([raw for _, raw in named], [name for name, _ in named], [])
