"""Folders of images, texts or sounds, with a sub-folder for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from quickstudy.datasets.decoded.decoding import RawExamples
from quickstudy.datasets.sources.layout import Layout, lay_out
from quickstudy.datasets.sources.listing import (
    FoundFile,
    Listing,
    counted_endings,
    is_about_the_data,
)
from quickstudy.datasets.sources.splits import (
    chosen_splits,
    class_splits_from,
    pooling_note,
    split_of,
)
from quickstudy.errors import InputError
from quickstudy.inputs.modalities import MODALITIES, modality_of_file
from quickstudy.inputs.unreadable import what_to_do_about

FOLDERS_SPLIT = "folders"
"""The class splits of a folder whose classes lie in train, validation and test folders."""

CLEAR_MAJORITY = 3
"""A folder holds a modality whose files outnumber all others by this factor."""

_LAYOUT_VERSION = 2


@dataclass(frozen=True)
class ClassFolders:
    """Files of images, of texts (one per file) or of sounds, in one sub-folder for each class.

    A class is named by the path of its folder, so folders can be nested. Folders called train, val
    or test are splits, not classes (see ``layout.lay_out``). If no class is in two splits, they are
    the class splits "folders"; otherwise the examples of a class are pooled, with a note.

    Args:
        listing: the contents of the folder.
        split: the splits to read, joined by "+"; None for all.
    """

    listing: Listing
    split: str | None = None
    _layouts: dict[str | None, Layout] = field(default_factory=dict, repr=False, compare=False)

    def identity(self) -> dict[str, Any]:
        """The files' names, sizes and times, which stand for their content: reading all is slow."""
        files = [[f.path, f.size, f.changed_ns] for f in self._files if "/" in f.path]
        about = {"folder": str(self.listing.folder.resolve()), "files": files}
        if self.split is None and self._is_plain:
            return about
        return about | {"layout": _LAYOUT_VERSION, "data_split": self.split}

    def modality(self) -> str:
        """The modality of the clear majority of files in class folders.

        Raises:
            ValueError: there are no such files, or no modality is in a clear majority.
        """
        folder = self.listing.folder
        if not self._folders(None):
            loose = Counter(modality_of_file(f.path) for f in self._files).most_common(1)
            return str(loose[0][0]) if loose else next(iter(MODALITIES))  # reading will refuse it
        counts = self._counts_in(self._classes(None))
        modality, most = next(iter(counts.items()))
        rest = sum(counts.values()) - most
        if not rest:
            return modality
        if most < CLEAR_MAJORITY * rest:
            raise InputError(
                f"The folder {folder} mixes modalities: {_listed(counts)}. Take out what are "
                "no examples, or say by `inputs` which are meant (ImageInputs, TextInputs, "
                "AudioInputs)."
            )
        return modality

    def _counts_in(self, folders: Collection[str]) -> dict[str, int]:
        """How many files of each modality lie in folders, most frequent first."""
        within = [file.path for file in self._files if file.folder in folders]
        found = Counter(modality_of_file(path) for path in within if not is_about_the_data(path))
        return {str(modality): count for modality, count in found.most_common()}

    def splits(self, modality: str) -> Sequence[str]:
        """The names of the folders that are splits of the data; empty if there are none."""
        return self._layout(modality).splits

    def notes(self, modality: str) -> list[str]:
        """Warnings for every time the files of a modality are read.

        Raises:
            ValueError: as :meth:`read`.
        """
        folder, layout = self.listing.folder, self._layout(modality)
        nouns = MODALITIES[modality].nouns
        classes = self._classes(modality)
        notes = [*layout.notes, *self._empty_folders(modality)]
        counts = self._counts_in(classes)
        if {*counts} - {modality}:
            notes.append(
                f"The class folders of {folder} hold {_listed(counts)}: only the {nouns} are read."
            )
        loose = [
            file.path
            for file in self._files
            if modality_of_file(file.path) == modality and file.folder not in layout.places
        ]
        if layout.splits and self.split is None:
            notes.append(pooling_note(f"the folder {folder}", self._classes_of_splits(modality)))
        without = [folder for folder, (_, split) in layout.places.items() if not split]
        if without and self.split is not None:
            notes.append(
                f"{len(without)} class folders of {folder} are in no split of the data and are "
                f"left out, because {self.split} was chosen: {without[0]!r} is the first."
            )
        if loose := [path for path in loose if not is_about_the_data(path)]:
            places = Counter(str(PurePosixPath(path).parent) for path in loose)
            listed = ", ".join(repr(place) for place in sorted(places) if place != ".")
            notes.append(
                f"{len(loose)} {nouns} lie in {folder} outside the class folders"
                f"{f' (in {listed})' if listed else ''} and are left out: {loose[0]!r} is the "
                "first."
            )
        unknown = [
            file.path
            for file in self.listing.files
            if modality_of_file(file.path) is None
            and not is_about_the_data(file.path)
            and any(path in classes for path in _with_parents(file.folder))
        ]
        if unknown:
            notes.append(
                f"{len(unknown)} files in the class folders of {folder} have types that cannot be "
                f"read and are left out ({counted_endings(unknown)}): {unknown[0]!r} is the "
                f"first.{what_to_do_about(unknown)}"
            )
        return [note for note in notes if note]

    @property
    def has_splits(self) -> bool:
        """Whether the folder has splits, for files of any modality."""
        return any(self._layout(each).splits for each in MODALITIES if self._folders(each))

    def chosen(self, split: str) -> ClassFolders:
        """The same folder with only the examples of some of its splits.

        Raises:
            ValueError: there is no such split; raised when the folder is read.
        """
        return ClassFolders(self.listing, split)

    @contextmanager
    def read(self, modality: str) -> Iterator[RawExamples]:
        """The files of a modality by class, both in alphabetical order.

        Raises:
            ValueError: there are no such files or no sub-folders, a sub-folder is empty, or the
                requested split does not exist.
        """
        folder = self.listing.folder
        self._empty_folders(modality)
        class_of = self._classes(modality)
        classes: dict[str, list[str]] = {}
        for file in self._files:
            if file.folder in class_of and modality_of_file(file.path) == modality:
                classes.setdefault(class_of[file.folder], []).append(file.path)
        names = sorted(classes)
        paths = [path for name in names for path in classes[name]]
        noun = MODALITIES[modality].noun

        def rows(start: int) -> Iterator[tuple[str, Any]]:
            for path in paths[start:]:
                yield f"The {noun} {str(folder / path)!r}", folder / path

        class_splits = class_splits_from(FOLDERS_SPLIT, self._classes_of_splits(modality))
        yield RawExamples(names, [len(classes[name]) for name in names], rows, class_splits)

    @property
    def looks_right(self) -> bool:
        """Whether there are files of some modality in two folders or more that may be classes."""
        tops = {f.path.partition("/")[0] for f in self._files if "/" in f.path}
        return len(tops) > 1 and not all(map(split_of, tops))

    @property
    def holds_classes(self) -> bool:
        """Whether two class folders or more hold files of one modality."""
        try:
            return len(self._layout(None).class_names) > 1
        except ValueError:
            return False

    @cached_property
    def _files(self) -> list[FoundFile]:
        return [file for file in self.listing.files if modality_of_file(file.path)]

    def _folders(self, modality: str | None) -> list[str]:
        """The folders below the top one with files of a modality, or of any if it is None."""
        return sorted(
            {
                file.folder
                for file in self._files
                if file.folder and modality in (None, modality_of_file(file.path))
            }
        )

    def _layout(self, modality: str | None) -> Layout:
        """The layout of the folders with files of one modality, or of all together."""
        if modality not in self._layouts:
            folder, nouns = self.listing.folder, MODALITIES[modality].nouns if modality else "files"
            folders = self._folders(modality)
            if not folders:
                raise self._without_folders(nouns)
            layout = lay_out(folders, str(folder), nouns)
            self._layouts[modality] = layout
        return self._layouts[modality]

    def _without_folders(self, nouns: str) -> InputError:
        """The message about a folder without sub-folders that hold such files."""
        folder = self.listing.folder
        loose = [f for f in self._files if not f.folder and not is_about_the_data(f.path)]
        loose = [
            f for f in loose if MODALITIES[str(modality_of_file(f.path))].nouns in (nouns, "files")
        ]
        what, hint = f"{len(loose)} {nouns} but no sub-folder with {nouns}", ""
        if not loose:
            what = f"no {nouns}" if self._files else "no images, texts or sounds"
            others = [f.path for f in self.listing.files if not modality_of_file(f.path)]
            if others and not self._files:
                hint = f" It holds {counted_endings(others)}.{what_to_do_about(others)}"
        return InputError(
            f"The folder {folder} has {what}. Put the files of each class in a sub-folder named "
            f"for the class.{hint}"
        )

    def _wanted_splits(self, layout: Layout) -> Sequence[str]:
        if self.split is None:
            return layout.splits
        return chosen_splits(self.split, layout.splits, f"The folder {self.listing.folder}")

    def _classes(self, modality: str | None) -> dict[str, str]:
        """The class of each folder with files, in the requested splits."""
        layout = self._layout(modality)
        wanted = {*self._wanted_splits(layout)}
        return {
            folder: name
            for folder, (name, split) in layout.places.items()
            if self.split is None or split in wanted
        }

    def _classes_of_splits(self, modality: str) -> dict[str, set[str]]:
        """The classes in each requested split."""
        layout = self._layout(modality)
        classes: dict[str, set[str]] = {split: set() for split in self._wanted_splits(layout)}
        for name, split in layout.places.values():
            if split in classes:
                classes[split].add(name)
        return classes

    @property
    def _is_plain(self) -> bool:
        try:
            return not self._folders(None) or self._layout(None).is_plain
        except ValueError:
            return False  # reading refuses it, unless the files of one modality are well laid out

    def _empty_folders(self, modality: str) -> list[str]:
        """Notes on class folders without files whose classes have files elsewhere.

        Raises:
            ValueError: a class folder has no files of this modality, nor has its class elsewhere.
        """
        folder, layout = self.listing.folder, self._layout(modality)
        used = {path for each in self._folders(modality) for path in _with_parents(each)}
        unused = [path for path in self.listing.folders if path not in used]
        places = {path: layout.place(path) for path in unused}
        empty = [path for path, place in places.items() if place]
        nouns = MODALITIES[modality].nouns
        known: list[str] = []
        if layout.splits:
            classes = layout.class_names
            known = [path for path, place in places.items() if place and place[0] in classes]
            known += [path for path in unused if split_of(path) and not places[path]]
            empty = [path for path in empty if path not in known]
        if empty:
            endings = sorted(MODALITIES[modality].endings)
            within = [f.path for f in self.listing.files if f.path.startswith(f"{empty[0]}/")]
            is_link = any((folder / path).is_symlink() for path in _with_parents(empty[0]))
            if is_link and not within:
                raise InputError(
                    f"The class folder {empty[0]!r} in {folder} has no {nouns} of its own: it is a "
                    "link to a folder that is read already. Remove one of them."
                )
            holds = f" It holds {counted_endings(within)}.{what_to_do_about(within)}"
            raise InputError(
                f"The class folder {empty[0]!r} in {folder} has no {nouns} ({len(empty)} such "
                f"folders). Put {nouns} in it or remove it; names of {nouns} end in "
                f"{', '.join(endings)}.{holds if within else ''}"
            )
        if not known:
            return []
        return [f"{len(known)} folders in {folder} have no {nouns}: {known[0]!r} is the first."]


def _listed(counts: Mapping[str, int]) -> str:
    """How many files there are of each modality: ``16 images, 2 sounds``."""
    return ", ".join(f"{count} {MODALITIES[each].nouns}" for each, count in counts.items())


def _with_parents(path: str) -> list[str]:
    """A path and the paths of all folders that contain it."""
    names = path.split("/")
    return ["/".join(names[:length]) for length in range(len(names), 0, -1)]
