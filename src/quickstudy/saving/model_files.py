"""Folders of pretrained models: local ones, and those of the Hugging Face hub.

A model is used only from a complete folder on the disk, and only if its weights are safetensors.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError, MissingFileError
from quickstudy.saving.foreign_files import explanation
from quickstudy.saving.hub import is_hub_id, looking_up

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MODULES = "modules.json"
"""Files that only folders of sentence-transformers have."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATTERNS = ["*.json", "*.txt", "*.model", "*.spm", "model*.safetensors", "*/model*.safetensors"]
_NOT_NEEDED = ["onnx/*", "openvino/*", "*.fp16.safetensors", "runs/*", "checkpoint-*"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class ModelFolder:
    """A complete model on the disk.

    Args:
        name: the hub id, or the folder's absolute path.
        revision: the hub's commit; None for a local folder.
        path: where the files are.
        config: content of ``config.json``.
    """

    name: str
    revision: str | None
    path: Path
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        """The architecture as the library transformers calls it, such as "vit"."""
        return str(self.config["model_type"])

    @property
    def modular(self) -> bool:
        """Whether it is laid out for sentence-transformers."""
        return (self.path / MODULES).exists()

    def read(self, file: str) -> dict[str, Any]:
        """The settings in a JSON file; empty if there is none."""
        return read_json(self.path / file) if (self.path / file).exists() else {}


def model_folder(name: str, revision: str | None = None) -> ModelFolder:
    """Finds a pretrained model; one of the hub is downloaded if it is not there yet.

    Args:
        name: a local folder laid out like a repository of the hub, or a hub id ``owner/name``.
        revision: a branch, tag or commit of the hub; None for the newest.

    Raises:
        FileNotFoundError: there is no such folder or model, or the hub cannot be reached.
        ValueError: the folder is no model, lacks files, or has its weights only as a pickle.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if revision is not None:
            raise InputError(
                f"{name} is a local folder, which has no revisions; {revision!r} was asked for."
            )
        return _checked(str(path.resolve()), None, path.resolve())
    if path.exists():
        raise InputError(
            explanation(path)
            or f"{name} is a file; a model is a folder with config.json and weights."
        )
    if not is_hub_id(name, owned=False):
        raise MissingFileError(
            f"There is no folder {name!r}. Check the path, or give a model's id on the Hugging "
            "Face hub, such as sentence-transformers/all-MiniLM-L6-v2."
        )
    return _from_hub(name, revision)


def describes_a_model(folder: Path) -> bool:
    """Whether a folder is meant as a pretrained model, complete or not."""
    return (folder / "config.json").is_file() or (folder / MODULES).is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold an object; it holds a {type(content).__name__}.")
    return content


def require_pretrained_extra(library: str = "transformers") -> None:
    """Raises an ImportError that states what to install if a library is missing."""
    if find_spec(library) is None:
        raise ImportError(
            f"Pretrained encoders need {library}, which is not installed: "
            "pip install 'quickstudy[pretrained]'."
        )


@lru_cache(maxsize=64)
def _from_hub(name: str, revision: str | None) -> ModelFolder:
    import huggingface_hub

    def snapshot(local: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=_PATTERNS,
                ignore_patterns=_NOT_NEEDED,
                local_files_only=local,
            )
        )

    if revision and _COMMIT.fullmatch(revision):  # what a commit holds never changes
        try:
            path = snapshot(local=True)
            return _checked(name, path.name, path)
        except (OSError, ValueError):
            pass
    advice = "Its ids are owner/name, such as sentence-transformers/all-MiniLM-L6-v2."
    with looking_up(name, "model", revision, advice):
        path = snapshot(local=False)
    return _checked(name, path.name, path)


def _checked(name: str, revision: str | None, path: Path) -> ModelFolder:
    """The folder, if it has what a model needs."""
    if not (path / "config.json").is_file():
        raise InputError(
            f"{name} is not a pretrained model: it has no config.json. Models are folders laid out "
            "like a repository of the Hugging Face hub (config.json, model.safetensors, ...)."
        )
    config = read_json(path / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"The config.json of {name} does not say its model_type.")
    folder = ModelFolder(name, revision, path, config)
    _check_weights(folder, path)
    if folder.modular:
        modules = json.loads((path / MODULES).read_text(encoding="utf-8"))
        for module in modules:
            if not str(module["type"]).startswith("sentence_transformers."):
                raise InputError(
                    f"{name} needs code of its own ({module['type']}), which is never run. Choose "
                    "a model made of modules of sentence-transformers."
                )
            part = path / str(module.get("path", ""))
            if part != path and any(part.glob("*.bin")) and not (part / WEIGHTS).exists():
                raise InputError(_only_pickled(name, part))
    return folder


def _check_weights(folder: ModelFolder, path: Path) -> None:
    """Refuses weights that are missing, incomplete or pickled; reads the files' headers only."""
    from safetensors import SafetensorError, safe_open

    if (path / WEIGHTS).exists():
        files = {WEIGHTS}
    elif (path / INDEX).exists():
        files = set(map(str, read_json(path / INDEX).get("weight_map", {}).values()))
    elif any(True for pattern in _PICKLES for _ in path.glob(pattern)):
        raise InputError(_only_pickled(folder.name, path))
    else:
        raise InputError(
            f"{folder.name} has no {WEIGHTS}. Weights in other forms (a pickle such as "
            "pytorch_model.bin, TensorFlow, ONNX) are never loaded; choose a model, or a revision "
            "of it, that has safetensors."
        )
    for file in sorted(files):
        if not (path / file).exists():
            raise InputError(f"{folder.name} is incomplete: it lacks {file}. Download it again.")
        try:
            with safe_open(path / file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path / file} is damaged or cut short ({error}). Delete it and download it again."
            ) from error


def _only_pickled(name: str, path: Path) -> str:
    return (
        f"{name} has its weights only as a pickle, which can run any code and is never loaded "
        f"({path}). Choose a revision with {WEIGHTS}, or convert them: load the model with the "
        "library transformers where you trust it, and save_pretrained."
    )
