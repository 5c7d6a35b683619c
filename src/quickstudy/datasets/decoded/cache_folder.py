"""The folder of decoded data, and files that appear in it only when complete."""

from __future__ import annotations

import errno
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from quickstudy.saving.files import atomically


def cache_folder() -> Path:
    """Where decoded data are kept: ``$QUICKSTUDY_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("QUICKSTUDY_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "datasets"
    import platformdirs

    return platformdirs.user_cache_path("quickstudy") / "datasets"


def writable_cache_folder() -> Path:
    """The cache folder, created if missing; a temporary folder if that is impossible."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="quickstudy-"))
        warnings.warn(
            f"Decoded data cannot be kept in {folder} ({error}), so they go to {temporary} and "
            "will be decoded again next time. Name a folder in QUICKSTUDY_CACHE.",
            stacklevel=2,
        )
        return temporary


@contextmanager
def appearing_when_complete(path: Path) -> Iterator[BinaryIO]:
    """A file that readers of ``path`` see either not at all or whole, whoever else writes it."""
    with (
        explaining_full_disks(path.parent),
        atomically(path) as temporary,
        temporary.open("r+b") as file,
    ):
        yield file


@contextmanager
def explaining_full_disks(folder: Path) -> Iterator[None]:
    """Adds to the error of a full disk what can be done about it."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            error.errno,
            f"The disk is full: the decoded data do not fit in {folder}. Make room, or name a "
            "folder on another disk in QUICKSTUDY_CACHE",
        ) from error
