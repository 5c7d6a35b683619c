"""Which columns of a table hold the inputs and the classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.datasets.sources.class_splits import read_class_splits
from quickstudy.datasets.sources.splits import training_splits
from quickstudy.datasets.sources.table import Table, codes, first_values
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import MODALITIES, is_text, modality_of_file

LABEL_COLUMNS = (
    "label",
    "labels",
    "class",
    "class_name",
    "category",
    "intent",
    "species",
    "target",
    "fine_label",
    "word",
    "digit",
    "sentiment",
    "emotion",
    "topic",
)
"""Usual names of the column of classes, the most usual first; case does not matter."""

_LOOKED_AT = 1000


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold inputs and classes; columns that are None are detected.

    Args:
        input: column of images, texts or sounds.
        label: column of class labels.
        configuration: data set to use from a repository that holds several.

    Raises:
        ValueError: if both are the same column.
    """

    input: str | None = None
    label: str | None = None
    configuration: str | None = None

    def __post_init__(self) -> None:
        if self.input is not None and self.input == self.label:
            raise InputError(
                f"The column {self.input!r} was named for the inputs and for the classes; each "
                "input would be a class of its own. Name another column with input_column or "
                "label_column."
            )


@dataclass(frozen=True)
class Tables:
    """Tables, one for each split.

    Args:
        splits: the tables by the names of their splits.
        name: their name in messages.
        folder: folder in which ``class_splits.json`` is looked for.
        roots: folders that can hold the files named in a table; paths are relative to the first.
        strings_are_paths: whether a column of strings can also name files.
    """

    splits: Mapping[str, Table]
    name: str
    folder: Path
    roots: Sequence[Path]
    strings_are_paths: bool = True

    @property
    def main(self) -> Table:
        """The table that is inspected: the training table, because others may lack labels."""
        return self.splits[training_splits([*self.splits])[0]]

    @property
    def features(self) -> Mapping[str, Any]:
        """The columns' types in the main table."""
        return self.main.features


@dataclass(frozen=True)
class Held:
    """The content of a column: items of one modality, or the paths of their files."""

    modality: str
    are_paths: bool = False


@dataclass(frozen=True)
class Found:
    """The columns that were requested or detected, and the content of the input column."""

    input: str
    label: str
    held: Held


def find_columns(tables: Tables, columns: Columns, modality: str | None) -> Found:
    """The columns of inputs and of classes.

    Args:
        tables: the tables to inspect.
        columns: the columns that are already known.
        modality: the wanted modality of inputs; None to accept any.

    Raises:
        ValueError: if the columns are not clear, or the named ones do not hold such inputs.
    """
    held = held_by_columns(tables, modality)
    found = columns.input or _input_column(tables, columns, held, modality)
    for column in (found, columns.label):
        if column is not None and column not in tables.features:
            raise InputError(
                f"{tables.name} has no column {column!r}. {described(tables.features)}"
            )
    if found not in held or modality not in (None, held[found].modality):
        raise InputError(
            f"The column {found!r} of {tables.name} cannot be read as {_plural(modality)}. "
            f"{described(tables.features)}"
        )
    return Found(found, columns.label or _label_column(tables, found), held[found])


def held_by_columns(tables: Tables, modality: str | None = None) -> dict[str, Held]:
    """The content of each column that can hold inputs; doubtful ones count as ``modality``."""
    decoded_by_library = {each.feature: each.name for each in MODALITIES.values() if each.feature}
    held = {}
    for key, feature in tables.features.items():
        dtype = getattr(feature, "dtype", None)
        if name := decoded_by_library.get(type(feature).__name__):
            held[key] = Held(name)
        elif dtype in ("string", "large_string"):
            of_files = _modality_of_paths(tables, key) if tables.strings_are_paths else None
            use_files = of_files is not None and modality in (None, of_files)
            held[key] = Held(of_files, True) if of_files and use_files else Held("text")
        elif dtype in ("binary", "large_binary") or _is_encoded(feature):
            media = [each.name for each in MODALITIES.values() if not each.is_text]
            usual = [each for each in media if key.lower() in MODALITIES[each].columns]
            likely = modality if modality in media else usual[0] if len(usual) == 1 else None
            if likely is not None:
                held[key] = Held(likely)
    return held


def _is_encoded(feature: Any) -> bool:
    """Whether a column stores files of images or sounds without declaring which."""
    return isinstance(feature, dict) and "bytes" in feature


def _modality_of_paths(tables: Tables, column: str) -> str | None:
    values = first_values(tables.main, column, _LOOKED_AT)
    paths = [value for value in values if value and isinstance(value, str)]
    modalities = {modality_of_file(path) for path in paths}
    modality = modalities.pop() if len(modalities) == 1 else None
    # A text can happen to end like a file name.
    if modality == "text" and not os.path.isfile(tables.roots[0] / paths[0]):  # noqa: PTH113
        return None  # Path.is_file would raise where a text is too long for a path
    return modality


def _input_column(
    tables: Tables, columns: Columns, held: Mapping[str, Held], modality: str | None
) -> str:
    usable = {
        key: each
        for key, each in held.items()
        if key != columns.label and modality in (None, each.modality)
    }
    # Where there are images or sounds, the strings beside them are about them.
    media = {key: each for key, each in usable.items() if not is_text(each.modality)}
    stored = {key: each for key, each in media.items() if not each.are_paths}
    unlike_labels = {k: each for k, each in usable.items() if k.lower() not in LABEL_COLUMNS}
    candidates = stored or media or unlike_labels or usable
    modalities = {each.modality for each in candidates.values()}
    found = None
    if len(modalities) == 1:
        found = _the_only_or_usual([*candidates], MODALITIES[next(iter(modalities))].columns)
    if found is None:
        nouns = [MODALITIES[each].nouns for each in sorted(modalities)]
        what = " and of ".join(nouns) or _plural(modality)
        several = f"columns of {what}" if len(modalities) > 1 else f"several columns of {what}"
        raise InputError(
            f"{tables.name} has {several if candidates else f'no column of {what}'}. "
            f"{described(tables.features)} If one of them holds the inputs to be used, name it "
            "with input_column."
        )
    return found


def _label_column(tables: Tables, found_input: str) -> str:
    import datasets

    others = {key: each for key, each in tables.features.items() if key != found_input}
    classes = [key for key, feature in others.items() if isinstance(feature, datasets.ClassLabel)]
    found = _the_only_or_usual(classes, LABEL_COLUMNS)
    if not classes:
        found = next(iter(by_usual_names(others, LABEL_COLUMNS)), None)
    if found is None:
        # Published class splits show which column the classes are in.
        strings = [key for key, each in others.items() if getattr(each, "dtype", None) == "string"]
        for splits in read_class_splits(tables.folder).values():
            named = {name for names in splits.values() for name in names}
            fitting = [
                key for key in strings if named <= {*codes([*tables.splits.values()], key)[0]}
            ]
            if len(fitting) == 1:
                return fitting[0]
    if found is None:
        raise InputError(
            f"It is not clear which column of {tables.name} says the class. "
            f"{described(tables.features)} Name the right one with label_column."
        )
    return found


def _the_only_or_usual(candidates: Sequence[str], usual: Iterable[str]) -> str | None:
    found = candidates if len(candidates) == 1 else by_usual_names(candidates, usual)
    return next(iter(found), None)


def by_usual_names(names: Iterable[str], usual: Iterable[str]) -> list[str]:
    """Those names that are usual, the most usual first; upper and lower case do not matter."""
    known = {str(each).lower(): each for each in names}
    return [known[name] for name in usual if name in known]


def _plural(modality: str | None) -> str:
    return "images, texts or sounds" if modality is None else MODALITIES[modality].nouns


def described(features: Mapping[str, Any]) -> str:
    """A table's columns and their types, as a sentence."""
    listed = []
    for key, feature in features.items():
        kind = type(feature).__name__
        listed.append(f"{key} ({feature.dtype if kind == 'Value' else kind})")
    return f"Its columns are {', '.join(listed)}."
