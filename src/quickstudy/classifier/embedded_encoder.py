"""Folders of pretrained encoders inside a ``.qs`` file, so that the file is all that is needed.

Each file of a folder is a tensor of bytes. In the descriptions of a classifier's parts a
placeholder stands where the folder was named; reading unpacks the folder into the cache, by the
digest of its content, and puts its path there. Only settings, tokenizers and safetensors are
packed and unpacked: what is unpacked is loaded as any folder is, and runs no code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.datasets.decoded.cache_folder import cache_folder
from quickstudy.encoders.feature_cache import encoder_identity
from quickstudy.encoders.pretrained.encoder import PretrainedEncoder
from quickstudy.errors import InputError, MissingFileError
from quickstudy.inputs import Inputs, PretrainedImageInputs, PretrainedTextInputs
from quickstudy.saving.files import explained
from quickstudy.saving.model_files import MODULES, ModelFolder, model_folder

GROUP = "folder"
"""The tensors of a file that hold folders are called ``folder.NAME/FILE``."""

MOST_FILES = 200
MOST_JSON_BYTES = 256 * 2**20

_UNPACKED = "embedded-encoders"
_PLACEHOLDER = "embedded:"
_DIGEST = re.compile(r"[0-9a-f]{40}")
_PART = re.compile(r"[\w-][\w.-]*", re.ASCII)
_NEEDED = (
    *("config.json", "config_sentence_transformers.json", "sentence_*config.json", MODULES),
    *("preprocessor_config.json", "processor_config.json", "tokenizer*.json", "vocab.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.txt", "merges.txt"),
    *("*.model", "*.spm", "model*.safetensors", "model.safetensors.index.json"),
)


def folders_of(inputs: Inputs | None, *parts: nn.Module | None) -> dict[str, ModelFolder]:
    """The folders that a classifier's inputs and modules are loaded from, by what names them."""
    modules = chain.from_iterable(part.modules() for part in parts if part is not None)
    found = {each.name: each.folder for each in modules if isinstance(each, PretrainedEncoder)}
    pretrained = PretrainedTextInputs | PretrainedImageInputs
    if isinstance(inputs, pretrained) and inputs.name not in found:
        found[inputs.name] = model_folder(inputs.name, inputs.revision)
    return found


def is_unpacked(name: str) -> bool:
    """Whether this is the path of a folder that was unpacked from a classifier's file."""
    outer = Path(name).parent
    return bool(_DIGEST.fullmatch(outer.name)) and outer.parent.name == _UNPACKED


def packed(folders: Mapping[str, ModelFolder]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The files of some folders as tensors of bytes, and the placeholder of each folder's name.

    Raises:
        FileNotFoundError: when a folder is not there any more.
        ValueError: when a file cannot be packed.
    """
    files: dict[str, Tensor] = {}
    placeholders: dict[str, str] = {}
    for name, folder in folders.items():
        short = re.sub(r"[^\w-]+", "-", PurePosixPath(name).name, flags=re.ASCII).strip("-")
        taken = {each.removeprefix(_PLACEHOLDER) for each in placeholders.values()}
        short = short or "model"
        while short in taken:
            short += "-2"
        placeholders[name] = f"{_PLACEHOLDER}{short}"
        for path in _needed(folder):
            content = _without_paths(path)
            inside = f"{short}/{path.relative_to(folder.path).as_posix()}"
            files[inside] = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
    _check(files)
    return files, placeholders


def unpacked(files: Mapping[str, Tensor]) -> dict[str, str]:
    """Unpacks folders into the cache; the path of each by its placeholder.

    An existing folder is compared byte by byte, and replaced if it differs.

    Args:
        files: tensors of bytes by name, as :func:`packed` gives them.

    Raises:
        ValueError: when a name or a content is not as :func:`packed` makes it.
        UnwritableError: when neither the cache nor a temporary folder can be written.
    """
    _check(files)
    by_folder: dict[str, dict[str, bytes]] = {}
    for name, tensor in files.items():
        folder, _, rest = name.partition("/")
        by_folder.setdefault(folder, {})[rest] = tensor.numpy().tobytes()
    return {f"{_PLACEHOLDER}{name}": str(_put(name, each)) for name, each in by_folder.items()}


def renamed(described: Any, names: Mapping[str, str]) -> Any:
    """A description (JSON) with other names of folders, which have no revisions."""
    if isinstance(described, list | tuple):
        return [renamed(each, names) for each in described]
    if not isinstance(described, Mapping):
        return names.get(described, described) if isinstance(described, str) else described
    new = {key: renamed(each, names) for key, each in described.items()}
    if "revision" in new and any(isinstance(v, str) and v in names for v in described.values()):
        new["revision"] = None
    return new


def embedded_identity(encoder: nn.Module) -> str:
    """As :func:`encoder_identity` of a pretrained encoder, wherever its folder is."""
    return encoder_identity(encoder.get_submodule("network"))


def check_same(encoder: nn.Module, files: Mapping[str, Tensor], placeholder: str) -> None:
    """Refuses what would be loaded as another encoder than the one that was packed (ValueError).

    Args:
        encoder: a pretrained one, loaded by its name.
        files: what :func:`packed` gave.
        placeholder: likewise, for this encoder's folder.
    """
    short = placeholder.removeprefix(_PLACEHOLDER)
    with tempfile.TemporaryDirectory() as place:
        for name, tensor in files.items():
            if name.startswith(f"{short}/"):
                _write(Path(place, name), tensor.numpy().tobytes())
        again = type(encoder)(str(Path(place, short)), None)
    if embedded_identity(again) != embedded_identity(encoder):
        raise InputError(
            f"The encoder {short} cannot be embedded: loaded from its settings, "
            "tokenizer and safetensors alone, it is not the same. Save the model again with the "
            "save_pretrained of its library, and learn with that folder."
        )


def _needed(folder: ModelFolder) -> Iterator[Path]:
    """The files that the loader reads; those of a folder of sentence-transformers lie in parts."""
    places = {folder.path}
    if folder.modular:
        modules = json.loads((folder.path / MODULES).read_text(encoding="utf-8"))
        places |= {folder.path / str(module.get("path", "")) for module in modules}
    found = [
        path
        for place in sorted(places)
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.is_file() and _is_needed(path.name)
    ]
    if not found:
        raise MissingFileError(
            f"The folder {folder.path} is not there any more, so the encoder in it cannot be "
            "embedded. Put it back, or learn again."
        )
    yield from found


def _is_needed(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _NEEDED)


def _check(files: Mapping[str, Tensor]) -> None:
    """Refuses names that could lead elsewhere, files that nothing reads, and too many of them."""
    if len(files) > MOST_FILES:
        raise InputError(
            f"An encoder of {len(files)} files cannot be embedded; {MOST_FILES} are the most."
        )
    for name, tensor in files.items():
        parts = name.split("/")
        if not (
            2 <= len(parts) <= 4 and all(map(_PART.fullmatch, parts)) and _is_needed(parts[-1])
        ):
            raise InputError(f"The file {name!r} is no part of an encoder that can be embedded.")
        if tensor.dtype != torch.uint8 or tensor.ndim != 1:
            raise InputError(f"The embedded file {name!r} does not consist of bytes.")
        if not name.endswith(".safetensors") and len(tensor) > MOST_JSON_BYTES:
            raise InputError(
                f"The embedded file {name!r} has {len(tensor)} bytes; {MOST_JSON_BYTES} are the "
                "most."
            )


def _put(name: str, files: Mapping[str, bytes]) -> Path:
    """The folder with these files and no other, in the cache."""
    digest = hashlib.blake2b(name.encode(), digest_size=20)
    for each, content in sorted(files.items()):
        digest.update(f"{each}\0{len(content)}\0".encode())
        digest.update(content)
    root = _root()
    outer = root / digest.hexdigest()
    if _holds(outer / name, files):
        return outer / name
    new = root / f".{outer.name}-{uuid.uuid4().hex}.tmp"
    try:
        with explained(outer):
            for each, content in files.items():
                _write(new / name / each, content)
            if outer.exists():  # damaged, or changed by somebody
                outer.rename(new / "before")
            try:
                new.rename(outer)
            except OSError:
                if not _holds(outer / name, files):  # else another process was faster
                    raise
            shutil.rmtree(outer / "before", ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return outer / name


def _root() -> Path:
    """The folder for unpacked encoders; one for temporary files where the cache is read-only."""
    root = cache_folder().parent / _UNPACKED
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except OSError as error:
        temporary = Path(tempfile.mkdtemp(prefix="quickstudy-")) / _UNPACKED
        temporary.mkdir()
        warnings.warn(
            f"The classifier's encoder cannot be unpacked in {root} ({error}), so it goes to "
            f"{temporary}. Name a folder in QUICKSTUDY_CACHE.",
            stacklevel=2,
        )
        return temporary


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether a folder holds these files, byte by byte, and no other."""
    there = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
    return there == set(files) and all(
        (folder / each).read_bytes() == content for each, content in files.items()
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _without_paths(path: Path) -> bytes:
    """A file's content; settings without the paths of the machine where they were written."""
    content = path.read_bytes()
    if not path.name.endswith("config.json"):
        return content
    try:
        settings = json.loads(content)
    except ValueError:  # the loader refuses it in words of its own
        return content
    plain = _named_alone(settings)
    return content if plain == settings else json.dumps(plain, indent=2).encode()


def _named_alone(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {
        key: file_name(value)
        if isinstance(value, str) and key.endswith(("name_or_path", "_file"))
        else _named_alone(value)
        for key, value in settings.items()
    }


def file_name(path: str) -> str:
    """The last part of an absolute path; anything else as it is."""
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        return PureWindowsPath(path).name
    return path
