"""Repositories of the Hugging Face hub, and local folders laid out like them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.datasets.decoded.cache_folder import writable_cache_folder
from quickstudy.datasets.sources.class_splits import CLASS_SPLITS_FILE
from quickstudy.datasets.sources.columns import Columns, Tables
from quickstudy.datasets.sources.listing import Listing
from quickstudy.datasets.sources.rows import without_bars
from quickstudy.datasets.sources.table import LibraryTable, ParquetTable, Table
from quickstudy.datasets.sources.tables import TableSource, file_digest
from quickstudy.errors import InputError
from quickstudy.messages import reason
from quickstudy.saving.hub import looking_up

_HASHED_UP_TO_BYTES = 2**30

_HUBS_PARQUET = {"revision": "refs/convert/parquet"}
"""Where the hub keeps its own copies, as parquet, of data that repositories read by a script, which
the library no longer runs; there every configuration is a folder."""


@dataclass(frozen=True)
class LocalRepository(TableSource):
    """A folder laid out like a repository of the hub: a card, parquet files, ``class_splits.json``.

    Args:
        listing: what lies in the folder.
    """

    listing: Listing

    def identity(self) -> dict[str, Any]:
        """Identifies the raw examples by the files' contents; very large files by their times."""
        # The split of the classes is read afresh each time, so it may change without decoding.
        files = [file for file in self.listing.files if file.path != CLASS_SPLITS_FILE]
        if sum(file.size for file in files) <= _HASHED_UP_TO_BYTES:
            folder = self.listing.folder
            contents = [[file.path, file_digest(folder / file.path)] for file in files]
        else:
            contents = [[file.path, f"{file.size} {file.changed_ns}"] for file in files]
        return {"contents": contents} | self.wanted

    @contextmanager
    def opened(self) -> Iterator[Tables]:
        """Its tables, by split."""
        folder = self.listing.folder
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=writable_cache_folder()) as copies:
            try:
                splits = _tables_by_split(str(folder.resolve()), self.columns, None, copies)
            except _errors() as error:
                raise InputError(
                    f"The folder {folder} is laid out like a repository of the Hugging Face "
                    f"hub, but cannot be read as one: {reason(error)}"
                ) from error
            yield Tables(splits, str(folder), folder, [folder, Path(copies)])


@dataclass(frozen=True)
class HubRepository(TableSource):
    """A data set of the Hugging Face hub; made by ``find_on_hub``.

    Args:
        repository: ``owner/name``.
        folder: the hub library's own folder for the repository's card and ``class_splits.json``,
            named for the commit.
    """

    repository: str
    folder: Path

    def identity(self) -> dict[str, Any]:
        """Identifies the raw examples by the repository and its commit."""
        return {"hub": self.repository, "commit": self.folder.name} | self.wanted

    @contextmanager
    def opened(self) -> Iterator[Tables]:
        """Its tables, by split; parquet is streamed, other files are downloaded."""
        from huggingface_hub.constants import HF_HUB_CACHE

        import datasets

        try:
            splits = _tables_by_split(self.repository, self.columns, self.folder.name, None)
        except _errors() as error:
            raise InputError(
                f"{self.repository} could not be loaded from the Hugging Face hub: {reason(error)}"
            ) from error
        # Tables can name files that the library has downloaded, and no other files.
        roots = [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]
        yield Tables(splits, self.repository, self.folder, roots, strings_are_paths=False)


def _tables_by_split(
    repository: str, columns: Columns, revision: str | None, copies: str | None
) -> dict[str, Table]:
    """The tables of a repository or a folder like one, by split.

    The library ``datasets`` determines the files. Parquet files are then read in place, row group
    by row group; other files are converted by the library to tables in ``copies``.
    """
    from datasets.packaged_modules.parquet.parquet import Parquet

    import datasets

    place = {"revision": revision, "cache_dir": copies}
    with without_bars():
        try:
            builder = datasets.load_dataset_builder(repository, columns.configuration, **place)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            builder = datasets.load_dataset_builder(
                repository, data_dir=columns.configuration or "default", **place | _HUBS_PARQUET
            )
        splits: dict[str, Table] = {}
        if isinstance(builder, Parquet):
            for split, files in builder.config.data_files.items():
                names = [str(file) for file in files]
                splits[str(split)] = ParquetTable(names, builder.info.features, _opened)
        else:
            loaded = datasets.load_dataset(  # nosec B615 # the revision is in `place`
                repository, columns.configuration, **place
            )
            splits = {str(split): LibraryTable(table) for split, table in loaded.items()}
        if not sum(map(len, splits.values())):
            raise InputError("it has no rows")
    return splits


def _errors() -> tuple[type[Exception], ...]:
    """The errors that the library ``datasets`` raises when it cannot read something."""
    import datasets

    own: type[Exception] = datasets.exceptions.DatasetsError
    return (OSError, ValueError, TypeError, KeyError, RuntimeError, own)


def _opened(address: str) -> Any:
    """Opens a file on this machine, or a file of the hub, which is fetched as it is read."""
    if not address.startswith("hf://"):
        return Path(address).open("rb")
    import huggingface_hub

    return huggingface_hub.HfFileSystem().open(address, "rb")


def find_on_hub(repository: str, columns: Columns) -> HubRepository:
    """Looks a data set up on the hub; without network, among those downloaded before.

    Raises:
        FileNotFoundError: there is none of this name, or the hub cannot be reached.
    """
    import huggingface_hub

    with looking_up(repository, "data set", page=f"datasets/{repository}"):
        snapshot = huggingface_hub.snapshot_download(  # nosec B615 # finds the newest commit
            repository, repo_type="dataset", allow_patterns=["README.md", CLASS_SPLITS_FILE]
        )
    return HubRepository(repository, Path(snapshot), columns=columns)
