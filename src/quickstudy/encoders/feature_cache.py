"""Features on disk, so that a slow encoder encodes each input once."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.datasets.decoded.cache_folder import cache_folder
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs

MOST_BYTES = 2 * 2**30
"""Default limit of the cache file in bytes."""

FILE = "features-2.sqlite"
"""The name holds the version of the format, so each version has a file of its own."""

_TABLE = """CREATE TABLE IF NOT EXISTS features
    (key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL, checksum INTEGER NOT NULL)"""
_ASKED_AT_ONCE = 500  # older versions of SQLite take 999 values
_WAIT_SECONDS = 30.0
_DIGEST_BYTES = 20

_identities: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()


class FeatureCache:
    """Float32 vectors kept by an encoder's identity and the content of its input.

    One SQLite file holds the vectors of all encoders. Several processes can use it at once, and the
    unfinished writes of a process that dies are discarded. A checksum detects vectors damaged on
    the disk, which are dropped; a damaged file is recreated. If the file cannot be written or the
    disk is full, a warning is issued and nothing more is stored.

    Args:
        encoder: the encoder's identity, as :func:`encoder_identity` gives it.
        folder: where the file is; by default ``features`` in ``$QUICKSTUDY_CACHE``, else in the
            user's cache folder.
        most_bytes: largest size of the file; beyond it, the oldest entries are removed. 0 stores
            nothing.

    Raises:
        ValueError: when ``most_bytes`` is negative.
    """

    def __init__(
        self, encoder: str, folder: Path | None = None, most_bytes: int = MOST_BYTES
    ) -> None:
        if most_bytes < 0:
            raise InputError(f"most_bytes is {most_bytes}; it must not be negative.")
        self.encoder = encoder
        self.folder = cache_folder().parent / "features" if folder is None else Path(folder)
        self.most_bytes = most_bytes
        self.usable = most_bytes > 0

    @property
    def path(self) -> Path:
        """The cache's file."""
        return self.folder / FILE

    def get(self, stored: Sequence[Tensor] | Tensor) -> list[Tensor | None]:
        """The vector ``[D]`` of each stored input ``[*shape]``; None for what is not kept."""
        keys = [self._key(each) for each in stored]
        found: dict[bytes, Tensor] = {}

        def look(connection: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                some = keys[start : start + _ASKED_AT_ONCE]
                rows = connection.execute(
                    "SELECT key, vector, checksum FROM features "
                    f"WHERE key IN ({','.join('?' * len(some))})",  # nosec B608 # question marks
                    some,
                )
                for key, vector, checksum in rows:
                    if _checksum(key, vector) == checksum:
                        found[key] = torch.from_numpy(np.frombuffer(vector, "<f4").copy())

        self._run(look)
        return [found.get(key) for key in keys]

    def put(self, stored: Sequence[Tensor] | Tensor, vectors: Tensor) -> None:
        """Keeps the vectors ``[n, D]`` of n stored inputs ``[*shape]``."""
        arrays = vectors.detach().to("cpu", torch.float32).numpy().astype("<f4")
        blobs = [array.tobytes() for array in arrays]
        keys = [self._key(each) for each in stored]
        rows = [(key, blob, _checksum(key, blob)) for key, blob in zip(keys, blobs, strict=True)]

        def keep(connection: sqlite3.Connection) -> None:
            connection.executemany("REPLACE INTO features VALUES (?, ?, ?)", rows)
            if _used_bytes(connection) > self.most_bytes:
                _drop_oldest(connection, until=0.9 * self.most_bytes)

        self._run(keep)

    def _key(self, stored: Tensor) -> bytes:
        digest = hashlib.blake2b(self.encoder.encode(), digest_size=_DIGEST_BYTES)
        feed(digest, stored)
        return digest.digest()

    def _run(self, action: Callable[[sqlite3.Connection], None]) -> None:
        """Runs one transaction; a fault of the file only means that nothing is kept."""
        if not self.usable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with _transaction(self.path) as connection:
                    action(connection)
            except sqlite3.OperationalError:  # full, read-only, locked: not damaged
                raise
            except sqlite3.DatabaseError as error:
                warnings.warn(
                    f"The cached features in {self.path} are damaged ({error}); they are made "
                    "anew.",
                    stacklevel=4,
                )
                _remove(self.path)
                with _transaction(self.path) as connection:
                    action(connection)
        except (sqlite3.Error, OSError) as error:
            self.usable = False
            warnings.warn(
                f"Features cannot be kept in {self.path} ({error}), so they will be computed again "
                "next time. Name a folder in QUICKSTUDY_CACHE.",
                stacklevel=4,
            )


def encoder_identity(encoder: nn.Module, inputs: Inputs | None = None) -> str:
    """A digest that two encoders share if they give the same vectors for the same stored input.

    It depends on the class, its arguments (if kept in attributes of the same name, as the package's
    encoders do), its structure, all its weights, and how ``inputs`` prepares stored inputs. The
    weights are read again only after they change. It does not see anything else that determines
    the vectors, such as the code of a forward method.

    Args:
        encoder: any module.
        inputs: prepares its inputs.
    """
    tensors = [*encoder.named_parameters(), *encoder.named_buffers()]
    settings = json.dumps(_settings(encoder), sort_keys=True)
    state = (settings, [_moment(tensor) for _, tensor in tensors])
    remembered = _identities.get(encoder)
    if remembered is None or remembered[0] != state:
        digest = hashlib.blake2b(settings.encode(), digest_size=20)
        for name, tensor in tensors:
            digest.update(name.encode())
            feed(digest, tensor)
        remembered = _identities[encoder] = (state, digest.hexdigest())
    prepared = json.dumps(inputs.to_dict(), sort_keys=True) if inputs is not None else ""
    both = hashlib.blake2b((remembered[1] + prepared).encode(), digest_size=20)
    return both.hexdigest()


def feed(digest: Any, tensor: Tensor) -> None:
    """Adds a tensor's type, shape and values to a hashlib digest; the memory layout is ignored."""
    digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
    # A single number has no bytes to view, a row of one has.
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(plain.view(torch.uint8).numpy().data)


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    # A new connection each time: threads and forks must not share one.
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(_TABLE)
            yield connection
    finally:
        connection.close()


def _checksum(key: bytes, vector: bytes) -> int:
    """Of both: a damaged index finds one key's row under another."""
    return zlib.crc32(vector, zlib.crc32(key))


def _used_bytes(connection: sqlite3.Connection) -> int:
    def ask(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (ask("page_count") - ask("freelist_count")) * ask("page_size")


def _drop_oldest(connection: sqlite3.Connection, until: float) -> None:
    """Drops a tenth at a time, the first that were kept."""
    while _used_bytes(connection) > until:
        first, last = connection.execute("SELECT min(rowid), max(rowid) FROM features").fetchone()
        if first is None:
            return
        oldest = first + (last - first) // 10
        connection.execute("DELETE FROM features WHERE rowid <= ?", (oldest,))


def _remove(path: Path) -> None:
    for each in (path.with_name(f"{path.name}-journal"), path):
        each.unlink(missing_ok=True)


def _moment(tensor: Tensor) -> tuple[Any, ...]:
    """A value that changes whenever the tensor is written to or replaced."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tuple(tensor.shape)


def _settings(value: Any) -> Any:
    """A module's class, arguments and structure, or a plain value; None for anything else."""
    if isinstance(value, nn.Module):
        names = inspect.signature(type(value).__init__).parameters
        kept = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return {
            "class": f"{type(value).__module__}.{type(value).__qualname__}",
            "arguments": _settings(kept),
            "structure": re.sub(r" at 0x[0-9a-f]+", "", str(value)),  # functions show addresses
        }
    if isinstance(value, Mapping):
        return {str(key): _settings(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_settings(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else None
