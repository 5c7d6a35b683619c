"""``load_dataset``: a name, a folder, a table or a hub repository to a ``ClassDataset``."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quickstudy.datasets.dataset import ClassDataset
from quickstudy.datasets.decoded.cache import load_or_decode
from quickstudy.datasets.decoded.decoding import (
    ClassSplits,
    RawExamples,
    Unreadable,
)
from quickstudy.datasets.sources.catalogue import (
    ALIASES,
    BENCHMARKS,
    Benchmark,
)
from quickstudy.datasets.sources.class_splits import (
    check_class_splits,
    present_class_splits,
    read_class_splits,
)
from quickstudy.datasets.sources.columns import Columns
from quickstudy.datasets.sources.finding import Source, find_source
from quickstudy.datasets.sources.folder import ClassFolders
from quickstudy.datasets.sources.notes import remembered
from quickstudy.datasets.sources.rows import Rows, Where
from quickstudy.datasets.sources.tables import TableSource
from quickstudy.deprecated import renamed_arguments
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs, TextInputs, UnreadableError, inputs_from_dict
from quickstudy.inputs.inputs import check_inputs
from quickstudy.inputs.modalities import MODALITIES
from quickstudy.inputs.text import read_text_file

DECODING_VERSION = 2
"""Examples that an older version decoded by other rules or without notes are decoded again."""


@renamed_arguments(data_split="split", division="class_splits")
def load_dataset(
    source: str | Path,
    *,
    rotations: bool | None = None,
    inputs: Inputs | None = None,
    unreadable: Unreadable = "refuse",
    input_column: str | None = None,
    label_column: str | None = None,
    configuration: str | None = None,
    split: str | None = None,
    where: Where | None = None,
    class_splits: str | None = None,
) -> ClassDataset:
    """Loads examples grouped by class; they are decoded once and then read from a cache file.

    Args:
        source: one of

            - a benchmark's name (see ``available_datasets``): read from the folder
              ``$QUICKSTUDY_DATA/<name>`` if there is one, else downloaded;
            - a path to a folder of images, of sounds or of texts (.txt or .md in UTF-8, one text
              per file), with one sub-folder for each class. The classes can lie in splits (train,
              val, dev, test, holdout, ...): ``train/cat`` or ``cat/train``;
            - a path to a folder of images or sounds with a ``metadata.csv`` (or .jsonl) at the top
              or in each split, with a column ``file_name`` and a column of labels;
            - a path to a table with a column of inputs and one of labels (.csv, .tsv, .jsonl, .json
              or .parquet), or to a folder of such tables. The inputs are texts, or paths of images
              or sounds, relative to the table's folder and inside it;
            - a path to a folder laid out like a repository of the Hugging Face hub (parquet files,
              or a card ``README.md``); all its splits are pooled;
            - a repository of the hub, ``"owner/name"``, that is not an existing path.

            A ``class_splits.json``, ``{name: {split: [class names]}}``, in the folder gives the
            data's class splits. A folder with the name of a benchmark is written ``"./name"``.
        rotations: whether to turn each class into four by quarter turns (images only); by default
            as in the benchmark's protocol (Omniglot: yes), else no.
        inputs: how raw items become tensors, and which modality is read if there are several.
            By default the benchmark's own; else images are read as 84x84 RGB with ImageNet's
            channel statistics, sounds as 2 seconds at 16 kHz, and texts as 64 subwords, of a
            vocabulary learned from the texts themselves (``TextInputs.learned``): from texts of the
            training classes if there are class splits, else from all texts. Labels are used for
            nothing else. To evaluate a trained run on other data, give the inputs of the run; to
            load another split of the same data, give the inputs of the first split.
        unreadable: whether an example that cannot be decoded is an error ("refuse") or is left out
            with a warning ("skip").
        input_column: column of images, texts or sounds, if that is not clear.
        label_column: column of class labels, if that is not clear.
        configuration: data set to use from a repository that holds several.
        split: load only the examples of this split, such as "train" or "test", or of several,
            joined by "+". Splits are folders, tables (named after their files) or the values of a
            table's column ``split``; "train", "validation" and "test" also stand for their
            synonyms, as "validation" does for ``dev``. By default all are loaded: a class that lies
            in several splits is pooled, with a warning; if none does, the splits are class splits.
            This argument divides examples; to divide classes, use :meth:`ClassDataset.split`.
        where: only the examples whose columns have one of these values:
            ``{"speaker": ["1", "2"]}``. A string in place of the list refers to an entry of
            ``class_splits.json`` that divides the values of this column:
            ``{"speaker": "speakers/train"}``.
        class_splits: name of the published class splits that :meth:`ClassDataset.split` uses by
            default; if not given, the benchmark's own, or the first.

    Columns, ``configuration`` and ``where`` are for repositories and tables.

    Returns:
        The data set; its examples are uint8 ``[N, channels, size, size]`` (images), int32
        ``[N, length]`` (texts) or int16 ``[N, samples]`` (sounds).

    Raises:
        FileNotFoundError: there is nothing of this name, or the hub cannot be reached.
        ValueError: the data or their ``class_splits.json`` cannot be made sense of.
        UnreadableError: an example cannot be decoded (a ValueError too).

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from quickstudy import load_dataset
        >>> folder = Path(tempfile.mkdtemp()) / "requests"
        >>> for name, text in (("card", "where is my card"), ("rate", "what is a euro worth")):
        ...     (folder / name).mkdir(parents=True)
        ...     _ = (folder / name / "1.txt").write_text(text)
        >>> load_dataset(folder)
        ClassDataset(requests: 2 classes, 1 examples each, 64)
    """
    if unreadable not in ("refuse", "skip"):
        raise InputError(f'unreadable is {unreadable!r}; it must be "refuse" or "skip".')
    _check_source(source)
    if inputs is not None:
        check_inputs(inputs)
    columns = Columns(input_column, label_column, configuration)
    name, default = ALIASES.get(str(source), (str(source), None))
    benchmark = BENCHMARKS.get(name) if isinstance(source, str) else None
    place, folder = find_source(source, benchmark, columns)
    written = read_class_splits(folder) if folder else {}
    rows = Rows.chosen(split, where, written)
    if isinstance(place, TableSource):
        place = dataclasses.replace(place, rows=rows)
    else:
        place = _chosen_split(place, rows, columns, str(source))
    published = _Published(benchmark, class_splits or default, written, folder, place)
    own_name = benchmark.name if benchmark else _short_name(source)
    if inputs is None:
        inputs = _default_inputs(place, benchmark, published)
    elif inputs.modality not in MODALITIES or (benchmark and inputs.modality != benchmark.modality):
        held = benchmark.modality if benchmark else place.modality()
        raise InputError(
            f"{source} is data of modality {held!r}; inputs of modality {inputs.modality!r} "
            "cannot read it."
        )
    modality = inputs.modality
    for note in place.notes(modality):
        warnings.warn(note, stacklevel=3)
    identity = dict(place.identity())
    # The decoding of benchmarks' images and texts has not changed.
    if modality == "audio" or not benchmark:
        identity["decoding"] = DECODING_VERSION
    decoded = load_or_decode(own_name, identity, inputs, lambda: place.read(modality), unreadable)
    # With published class splits, pooling the examples is part of the protocol.
    pooling = "" if benchmark or written else decoded.pooling
    for note in [*decoded.notes, pooling]:
        if note:
            warnings.warn(note, stacklevel=3)
    dataset = ClassDataset.contiguous(
        decoded.examples,
        decoded.sizes,
        decoded.class_names,
        inputs,
        str(source) if benchmark else own_name,
        published.class_splits(decoded.class_splits, decoded.class_names),
    )
    if rotations is None:
        rotations = bool(benchmark and benchmark.rotations)
    return dataset.expand() if rotations else dataset


def _check_source(source: Any) -> None:
    """Refuses anything but a name or a path; the message states what to do (ValueError)."""
    if isinstance(source, str | Path) and str(source).strip():
        return
    if isinstance(source, str):
        raise InputError(
            "The name of the data is empty; give a path, a benchmark's name or owner/name."
        )
    name = type(source).__name__
    if isinstance(source, ClassDataset):
        raise InputError(
            "The data are a ClassDataset, which is loaded already; use it as it is, or one "
            "of its splits: data.split()['train']."
        )
    if isinstance(source, Mapping):
        keys = ", ".join(map(repr, list(source)[:5]))
        raise InputError(
            f"The data are a {name} of {keys}; load_dataset reads names and paths. Give examples "
            "and labels in memory to ClassDataset.from_arrays(examples, labels, inputs)."
        )
    given = "None" if source is None else f"a {name}"
    raise InputError(
        f"The data are {given}; load_dataset reads names and paths, one at a time. Examples in "
        "memory, such as arrays, lists and data sets of other libraries, become a data set by "
        "ClassDataset.from_arrays(examples, labels, inputs)."
    )


def _chosen_split(place: Source, rows: Rows, columns: Columns, source: str) -> Source:
    """A source without tables, where only a split can be chosen."""
    if columns == Columns() and rows.all:
        return place
    has_splits = isinstance(place, ClassFolders) and place.has_splits
    if rows.split is None or not has_splits or columns != Columns() or rows.where:
        raise InputError(
            f"{source} is neither a table nor a repository of the hub, nor laid out like one, so "
            "it has no columns, configurations or splits to choose."
        )
    return place.chosen(rows.split)


@dataclass(frozen=True)
class _Published:
    """The class splits that are known of some data, wherever they are written.

    Args:
        benchmark: in the catalogue.
        default: the name of the first.
        written: in ``class_splits.json``.
        folder: that it lies in.
        place: where the examples are.
    """

    benchmark: Benchmark | None
    default: str | None
    written: ClassSplits
    folder: Path | None
    place: Source

    def class_splits(self, found: ClassSplits, class_names: Sequence[str]) -> ClassSplits:
        """The class splits of these classes, the default first; ``found`` came with the examples.

        Raises:
            ValueError: ``class_splits.json`` names classes that the data do not have.
        """
        place = self.place
        in_tables = isinstance(place, TableSource)
        if self.folder and not (isinstance(place, TableSource) and not place.rows.all):
            check_class_splits(self.folder, self.written, class_names, in_tables)
        # Class splits beside the data take precedence over those of the catalogue.
        remembered_ones = self.benchmark.class_splits if self.benchmark else {}
        if in_tables and (self.benchmark or self.written):
            found = {}  # the splits of tables are class splits only if none are published
        splits = present_class_splits({**remembered_ones, **found, **self.written}, class_names)
        first = [self.default] if self.default else []
        first += self.benchmark.splits if self.benchmark else ()
        return {name: splits[name] for name in dict.fromkeys([*first, *splits]) if name in splits}

    def about(self) -> dict[str, Any]:
        """Everything besides the examples that determines the class splits; JSON-ready."""
        name = self.benchmark.name if self.benchmark else None
        return {"written": self.written, "benchmark": name, "first": self.default}


def _default_inputs(place: Source, benchmark: Benchmark | None, published: _Published) -> Inputs:
    if benchmark and benchmark.inputs:
        return benchmark.inputs
    modality = benchmark.modality if benchmark else place.modality()
    if inputs := MODALITIES[modality].default_inputs():
        return inputs
    about = {"subwords of": place.identity(), "splits": published.about()}
    learn: Callable[[], Any] = lambda: _learned_inputs(place, published).to_dict()  # noqa: E731
    return inputs_from_dict(remembered(about, learn))


def _learned_inputs(place: Source, published: _Published) -> TextInputs:
    """Reads subwords of the training classes' texts, if class splits say which these are."""
    with place.read("text") as raw:
        first: Any = next(
            iter(published.class_splits(raw.class_splits, raw.class_names).values()), {}
        )
        training = set(first.get("train", raw.class_names))
        return TextInputs.learned(_texts(raw, training))


def _texts(raw: RawExamples, classes: set[str]) -> list[str]:
    texts = []
    wanted = np.array([name in classes for name in raw.class_names])[raw.class_of_rows()]
    for (_, text), is_wanted in zip(raw.rows(0), wanted, strict=True):
        if is_wanted:
            try:
                texts.append(read_text_file(text) if isinstance(text, Path) else text)
            except UnreadableError:
                continue  # decoding will say so
    return texts


def _short_name(source: str | Path) -> str:
    """The name of data in messages: ``owner/name``, or the last part of a path."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else str(source)
