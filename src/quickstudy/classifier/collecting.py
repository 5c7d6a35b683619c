"""Labelled examples and new inputs as people have them: in folders, tables and lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.classifier.reader import Reader
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.finding import find_source
from quickstudy.datasets.sources.folder import ClassFolders
from quickstudy.datasets.sources.listing import counted_endings, is_about_the_data, list_folder
from quickstudy.datasets.sources.splits import learning_note, training_splits
from quickstudy.datasets.sources.tables import TABLE_ENDINGS
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs.modalities import MODALITIES, modality_of_file
from quickstudy.inputs.unreadable import what_to_do_about


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
        """Those examples that can be read; of each other one a warning says why not.

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
        input_column: of a table, where it cannot be told.
        label_column: of a table, where it cannot be told.
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
    """What to call an example: a text by itself, a file by its path inside the source."""
    if isinstance(raw, Path):
        return str(raw.relative_to(source)) if raw.is_relative_to(source) else str(raw)
    return raw if isinstance(raw, str) else called


def new_inputs(words: Sequence[str], modality: str, lines: Iterable[str] = ()) -> Collected:
    """Inputs to be classified.

    Args:
        words: paths of files and folders; of texts also the texts themselves; "-" for ``lines``.
        modality: of the inputs that the classifier reads.
        lines: each a text, or else a path.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when nothing is found, or a file is a table.
    """
    raw: list[Any] = []
    names: list[str] = []
    for word in words:
        if word == "-":
            some: list[Any] = [line.rstrip("\r\n") for line in lines if line.strip()]
            if modality != "text":
                some = [Path(each) for each in some]
        elif not word.strip():
            raise InputError("One of the inputs is empty; leave it out or write something.")
        elif modality == "text" and not _is_path(word):
            some = [word]
        elif Path(word).is_dir():
            some, left = _files_of_modality(Path(word), modality)
            holds = f" It holds {counted_endings(left)}.{what_to_do_about(left)}" if left else ""
            if not some:
                raise InputError(
                    f"The folder {word} holds no files of modality {modality!r}.{holds}"
                )
            if left:
                warnings.warn(
                    f"{len(left)} files in the folder {word} cannot be read as "
                    f"{MODALITIES[modality].nouns} and are left out ({counted_endings(left)}): "
                    f"{left[0]!r} is the first.{what_to_do_about(left)}",
                    stacklevel=2,
                )
        else:
            some = [Path(word)]
        for each in some:
            if isinstance(each, Path) and not each.is_file():
                hint = " A text that ends as files do is read from standard input: give -."
                raise MissingFileError(
                    f"There is no file {str(each)!r}.{hint if modality == 'text' else ''}"
                )
            if isinstance(each, Path) and each.suffix.lower() in TABLE_ENDINGS:
                raise InputError(
                    f"{each} is a table, and not one input. Give the inputs of its rows one a line "
                    "on standard input, with - in its place."
                )
        raw += some
        names += map(str, some)
    if not raw:
        raise InputError("There is nothing to classify: no inputs were given.")
    return Collected(raw, names, [])


def _is_path(word: str) -> bool:
    """Whether it names something that is there, or is meant to: no blanks, and ends as files do."""
    path = Path(word)
    try:
        if path.exists():
            return True
    except OSError:  # too long for a path
        return False
    ends_so = modality_of_file(word) is not None or path.suffix.lower() in TABLE_ENDINGS
    return ends_so and len(word.split()) == 1


def _files_of_modality(folder: Path, modality: str) -> tuple[list[Path], list[str]]:
    """The files of one modality in a folder, and the paths of all other files in it."""
    found, left = [], []
    for file in list_folder(folder).files:
        if modality_of_file(file.path) == modality:
            found.append(folder / file.path)
        elif not is_about_the_data(file.path):
            left.append(file.path)
    return found, left
