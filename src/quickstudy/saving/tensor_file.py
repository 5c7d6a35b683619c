"""One file of tensors and JSON, with a checksum over all of it.

A safetensors file whose metadata hold two strings: ``quickstudy``, the JSON, and ``checksum``, the
BLAKE2b of the whole file with zeros in the checksum's place. Reading executes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from quickstudy.errors import InputError, MissingFileError
from quickstudy.saving.files import atomically
from quickstudy.saving.foreign_files import explanation

_DIGEST_BYTES = 32
_NO_CHECKSUM = b"0" * (2 * _DIGEST_BYTES)
_LENGTH_BYTES = 8  # of the header's length, at the beginning of a safetensors file


@dataclass(frozen=True)
class Format:
    """The content of a file.

    Args:
        name: written into the file.
        version: likewise; readers refuse any other.
        noun: what messages call such a file.
        advice: what to do about a damaged one.
    """

    name: str
    version: int
    noun: str
    advice: str


def write(
    path: Path,
    form: Format,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    keep: Path | None = None,
) -> None:
    """Writes a file, in one piece. Tensors are laid out in memory again as they are now.

    Args:
        path: path of the file.
        form: what it holds.
        header: JSON-ready.
        tensors: by name.
        keep: where the file that was at ``path`` before is moved when the new one is complete.
    """
    strides = {name: [*t.stride()] for name, t in tensors.items() if not t.is_contiguous()}
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    about = {"format": form.name, "version": form.version, "strides": strides}
    text = json.dumps({**header, **about})
    metadata = {"quickstudy": text, "checksum": _NO_CHECKSUM.decode()}
    content = safetensors.torch.save(plain, metadata)
    digest = hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
    place = _place_of(content, _NO_CHECKSUM)
    with atomically(path, keep) as temporary, temporary.open("wb") as file:
        file.write(content[:place])
        file.write(digest.encode())
        file.write(content[place + len(digest) :])


def read(path: Path, form: Format) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON and the tensors of a file.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when it is damaged, something else, or of a version that this one cannot read.
    """
    if path.is_dir():
        run = (path / "checkpoints").is_dir()
        advice = f" It is a run; `quickstudy learn ... --strategy {path}` uses it." if run else ""
        raise MissingFileError(
            f"There is no {form.noun} {str(path)!r}: that is a folder; a file is needed.{advice}"
        )
    if not path.is_file():
        raise MissingFileError(f"There is no {form.noun} {str(path)!r}.")
    content = path.read_bytes()
    metadata = _metadata(path, form, content)
    header = _header(path, form, metadata.get("quickstudy"))
    if not _is_whole(content, metadata.get("checksum")):
        raise InputError(
            f"The {form.noun} {path} is damaged: its checksum does not fit its content. "
            f"{form.advice}"
        )
    try:
        tensors = dict(sorted(safetensors.torch.load(content).items()))  # no order of its own
        for name, strides in header["strides"].items():
            tensors[name] = _laid_out(tensors[name], strides)
    except (KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"The {form.noun} {path} says of its tensors what does not fit them ({error!r}). "
            f"{form.advice}"
        ) from error
    return header, tensors


def _metadata(path: Path, form: Format, content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        if not 2 <= length <= len(content) - _LENGTH_BYTES:
            raise InputError("its header is longer than the file")
        metadata = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]
        if not isinstance(metadata, dict):
            raise TypeError("its metadata are no dictionary")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if foreign := explanation(path):
            raise InputError(foreign) from error
        raise InputError(
            f"{path} is not a {form.noun} that quickstudy saved, or damaged, or only a part of one "
            f"({error}). {form.advice}"
        ) from error
    return metadata


def _header(path: Path, form: Format, text: Any) -> dict[str, Any]:
    try:
        header = json.loads(text)
        found, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if foreign := explanation(path):
            raise InputError(foreign) from error
        raise InputError(
            f"{path} is a safetensors file, but not a {form.noun} that this version of quickstudy "
            "knows."
        ) from error
    if found != form.name:
        raise InputError(f"{path} is a {found!r}; a {form.name!r} is needed.")
    if version != form.version:
        raise InputError(
            f"{path} has version {version} of the format; this quickstudy reads version "
            f"{form.version}. Use the quickstudy that wrote it, or make it again."
        )
    return dict(header)


def _is_whole(content: bytes, checksum: Any) -> bool:
    if not isinstance(checksum, str) or len(checksum) != len(_NO_CHECKSUM):
        return False
    place = _place_of(content, checksum.encode())
    if place < 0:
        return False
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (content[:place], _NO_CHECKSUM, content[place + len(_NO_CHECKSUM) :]):
        digest.update(part)
    return digest.hexdigest() == checksum


def _place_of(content: bytes, checksum: bytes) -> int:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    return content[: _LENGTH_BYTES + length].find(b'"' + checksum + b'"') + 1 or -1


def _laid_out(tensor: Tensor, strides: list[int]) -> Tensor:
    """The same numbers in the layout that they had, so that sums over them round the same."""
    expected = 1
    for stride, size in sorted(zip(strides, tensor.shape, strict=True)):
        if size > 1 and stride != expected:
            return tensor  # a layout with gaps could ask for any amount of memory
        expected *= size
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)
