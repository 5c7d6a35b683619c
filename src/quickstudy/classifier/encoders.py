"""``load_encoder``: a run trained here, a hub id or a local folder to an encoder and its inputs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

import quickstudy.encoders
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs
from quickstudy.saving.foreign_files import explanation
from quickstudy.saving.model_files import MODULES, describes_a_model, model_folder

CLASSES = {
    "image": "PretrainedImageEncoder",
    "text": "PretrainedTextEncoder",
    "audio": "PretrainedAudioEncoder",
}
"""The pretrained encoder of each kind of input."""


def load_encoder(
    name: str | Path, revision: str | None = None, kind: str | None = None
) -> tuple[nn.Module, Inputs]:
    """An encoder in evaluation mode, and what makes raw things into its inputs.

    Args:
        name: the directory of a run or one of its checkpoints, whose strategy's encoder is taken;
            a local folder laid out like a repository of the Hugging Face hub; or a hub id.
        revision: a branch, tag or commit of the hub.
        kind: "image", "text" or "audio". It decides which part of a model of two kinds is taken,
            such as CLIP; of any other model it is found out.

    Raises:
        FileNotFoundError: there is no such run, folder or model, or the hub cannot be reached.
        ValueError: it is neither a run nor a model that can be used, or it is of another kind.
        ImportError: the extra "pretrained" is not installed.
    """
    if kind is not None and kind not in CLASSES:
        raise InputError(f"The kind {kind!r} is unknown; choose {', '.join(CLASSES)}.")
    path = Path(name).expanduser()
    if path.is_file() or (path.is_dir() and (path / "checkpoints").is_dir()):
        return _of_run(path, kind)
    if path.is_dir() and not describes_a_model(path):
        raise InputError(
            f"The folder {name} is neither a run (it has no checkpoints) nor a pretrained model "
            "(it has no config.json)."
        )
    if str(name) in quickstudy.encoders.__all__:
        raise InputError(
            f"{name} is a class of encoders, none of which has learned anything yet. Give a run "
            f"that trained one (quickstudy train --encoder {name}), or a pretrained model's id or "
            "folder."
        )
    return _pretrained(str(name), revision, kind)


def _of_run(path: Path, kind: str | None) -> tuple[nn.Module, Inputs]:
    from quickstudy.runs.run import load

    if path.is_file() and path.suffix != ".safetensors":
        raise InputError(
            explanation(path)
            or (
                f"{path} is not a checkpoint of a run; the names of checkpoints end in "
                ".safetensors."
            )
        )
    run = load(path)
    encoder = getattr(run.strategy, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise InputError(
            f"The strategy of the run {path}, {type(run.strategy).__name__}, has no encoder."
        )
    if kind is not None and run.inputs.kind != kind:
        raise InputError(
            f"The run {path} was trained on inputs of kind {run.inputs.kind!r}, not {kind!r}."
        )
    return encoder.eval(), run.inputs


def _pretrained(name: str, revision: str | None, kind: str | None) -> tuple[nn.Module, Inputs]:
    kinds = _kinds(name, revision)
    if kind is None:
        if len(kinds) > 1:
            raise InputError(
                f"{name} encodes inputs of the kinds {' and '.join(kinds)}; say which is wanted: "
                f"kind={kinds[0]!r}."
            )
        kind = kinds[0]
    elif kind not in kinds:
        raise InputError(f"{name} encodes inputs of kind {' and '.join(kinds)}, not {kind!r}.")
    encoder: Any = getattr(quickstudy.encoders, CLASSES[kind])(name, revision)
    return encoder, encoder.inputs


def _kinds(name: str, revision: str | None) -> list[str]:
    """The kinds of input that a model encodes, found out from its settings."""
    from quickstudy.encoders.pretrained.audio import AUDIO_TOWERS
    from quickstudy.encoders.pretrained.images import IMAGE_TOWERS
    from quickstudy.encoders.pretrained.text import TEXT_TOWERS

    folder = model_folder(name, revision)
    by_kind: dict[str, Collection[str]] = {
        "image": IMAGE_TOWERS,
        "text": TEXT_TOWERS,
        "audio": AUDIO_TOWERS,
    }
    kinds = [kind for kind, towers in by_kind.items() if folder.model_type in towers]
    if kinds:
        return kinds
    reads_texts = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", MODULES)
    if any((folder.path / file).exists() for file in reads_texts):
        return ["text"]
    raise InputError(
        f"{name} is a model of type {folder.model_type!r}, in which no encoder is known: images "
        f"are read by {', '.join(IMAGE_TOWERS)}, sounds by {', '.join(AUDIO_TOWERS)}, texts by "
        "models with a tokenizer."
    )
