"""Repositories of the Hugging Face hub, and local folders laid out like them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.datasets.cache_folder import writable_cache_folder
from quickstudy.datasets.columns import Columns, raw_examples, reason
from quickstudy.datasets.decoding import RawExamples
from quickstudy.datasets.folder import CLASS_SPLITS_FILE, Listing

_HASHED_UP_TO_BYTES = 2**30


@dataclass(frozen=True)
class LocalRepository:
    """A folder laid out like a repository of the hub: a card, parquet files, ``class_splits.json``.

    Args:
        listing: what lies in the folder.
        columns: where the images and labels are.
    """

    listing: Listing
    columns: Columns

    @property
    def folder(self) -> Path:
        """Where ``class_splits.json`` may lie."""
        return self.listing.folder

    def identity(self) -> dict[str, Any]:
        """What the raw examples follow from: the files' contents; of very large ones, the times."""
        # The split of the classes is read afresh each time, so it may change without decoding.
        files = [file for file in self.listing.files if file.path != CLASS_SPLITS_FILE]
        if sum(file.size for file in files) <= _HASHED_UP_TO_BYTES:
            contents = [[file.path, _digest(self.folder / file.path)] for file in files]
        else:
            contents = [[file.path, f"{file.size} {file.changed_ns}"] for file in files]
        return {"contents": contents, "columns": vars(self.columns)}

    @contextmanager
    def read(self) -> Iterator[RawExamples]:
        """The examples of all data splits together (few-shot splits are by class)."""
        import datasets

        # The library makes a copy of its own of what it reads, which is needed only while decoding.
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=writable_cache_folder()) as copies:
            had_bars = not datasets.are_progress_bars_disabled()
            datasets.disable_progress_bars()
            try:
                loaded = datasets.load_dataset(
                    str(self.folder.resolve()), self.columns.configuration, cache_dir=copies
                )
            except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
                raise ValueError(
                    f"The folder {self.folder} is laid out like a repository of the Hugging Face "
                    f"hub, but cannot be read as one: {reason(error)}"
                ) from error
            finally:
                if had_bars:
                    datasets.enable_progress_bars()
            yield raw_examples(loaded, self.columns, self.folder, str(self.folder))


@dataclass(frozen=True)
class HubRepository:
    """A data set of the Hugging Face hub; made by ``find_on_hub``.

    Args:
        repository: ``owner/name``.
        folder: the hub library's own folder for the repository's card and ``class_splits.json``,
            named for the commit.
        columns: where the images and labels are.
    """

    repository: str
    folder: Path
    columns: Columns

    def identity(self) -> dict[str, Any]:
        """What the raw examples follow from: the repository and its commit."""
        commit = self.folder.name
        return {"hub": self.repository, "commit": commit, "columns": vars(self.columns)}

    @contextmanager
    def read(self) -> Iterator[RawExamples]:
        """The examples of all data splits together, downloaded where they are not there yet."""
        import datasets

        try:
            loaded = datasets.load_dataset(
                self.repository, self.columns.configuration, revision=self.folder.name
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise ValueError(
                f"{self.repository} could not be loaded from the Hugging Face hub: {reason(error)}"
            ) from error
        yield raw_examples(loaded, self.columns, self.folder, self.repository)


def find_on_hub(repository: str, columns: Columns) -> HubRepository:
    """Looks a data set up on the hub; without network, among those downloaded before.

    Raises:
        FileNotFoundError: there is none of this name, or the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        snapshot = huggingface_hub.snapshot_download(
            repository, repo_type="dataset", allow_patterns=["README.md", CLASS_SPLITS_FILE]
        )
    except errors.GatedRepoError as error:
        raise FileNotFoundError(
            f"{repository} on the Hugging Face hub is given only to those who ask for it: "
            f"accept its terms at https://huggingface.co/datasets/{repository} and log in "
            "(`hf auth login`)."
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FileNotFoundError(
            f"The Hugging Face hub has no data set {repository!r} that you may read."
        ) from error
    except OSError as error:
        raise FileNotFoundError(
            f"The Hugging Face hub cannot be reached to find {repository!r}, and it was not "
            f"downloaded before ({reason(error)})"
        ) from error
    return HubRepository(repository, Path(snapshot), columns)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
