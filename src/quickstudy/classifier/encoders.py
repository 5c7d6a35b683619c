"""``load_encoder``: a run trained here, a hub id or a local folder to an encoder and its inputs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn

import quickstudy.encoders
from quickstudy.deprecated import once_positional, renamed_arguments
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs
from quickstudy.inputs.modalities import MODALITIES, imported
from quickstudy.saving.foreign_files import explanation
from quickstudy.saving.model_files import MODULES, describes_a_model, model_folder


@once_positional("revision", "modality")
@renamed_arguments(kind="modality")
def load_encoder(
    name: str | Path, *, revision: str | None = None, modality: str | None = None
) -> tuple[nn.Module, Inputs]:
    """Loads an encoder, in evaluation mode, and the inputs that prepare what it reads.

    Args:
        name: the directory of a run or one of its checkpoints, whose strategy's encoder is taken;
            a local folder laid out like a repository of the Hugging Face hub; or a hub id.
        revision: a branch, tag or commit of the hub.
        modality: "image", "text" or "audio"; needed only for a model with encoders for two
            modalities, such as CLIP.

    Raises:
        FileNotFoundError: there is no such run, folder or model, or the hub cannot be reached.
        ValueError: it is neither a run nor a model that can be used, or it is of another modality.
        ImportError: the extra "pretrained" is not installed.
    """
    if modality is not None and modality not in MODALITIES:
        raise InputError(f"The modality {modality!r} is unknown; choose {', '.join(MODALITIES)}.")
    path = Path(name).expanduser()
    if path.is_file() or (path.is_dir() and (path / "checkpoints").is_dir()):
        return _of_run(path, modality)
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
    return _pretrained(str(name), revision, modality)


def _of_run(path: Path, modality: str | None) -> tuple[nn.Module, Inputs]:
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
    if modality is not None and run.inputs.modality != modality:
        raise InputError(
            f"The run {path} was trained on inputs of modality {run.inputs.modality!r}, not "
            f"{modality!r}."
        )
    return encoder.eval(), run.inputs


def _pretrained(name: str, revision: str | None, modality: str | None) -> tuple[nn.Module, Inputs]:
    modalities = _modalities(name, revision)
    if modality is None:
        if len(modalities) > 1:
            raise InputError(
                f"{name} encodes inputs of the modalities {' and '.join(modalities)}; "
                f"choose one: modality={modalities[0]!r}."
            )
        modality = modalities[0]
    elif modality not in modalities:
        raise InputError(
            f"{name} encodes inputs of modality {' and '.join(modalities)}, not {modality!r}."
        )
    encoder: Any = imported(MODALITIES[modality].pretrained_encoder)(name, revision)
    return encoder, encoder.inputs


def _modalities(name: str, revision: str | None) -> list[str]:
    """The modalities that a model encodes, according to its configuration."""
    folder = model_folder(name, revision)
    by_modality: dict[str, Collection[str]] = {
        each.name: imported(each.pretrained_encoder).towers for each in MODALITIES.values()
    }
    modalities = [each for each, towers in by_modality.items() if folder.model_type in towers]
    if modalities:
        return modalities
    reads_texts = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", MODULES)
    if any((folder.path / file).exists() for file in reads_texts):
        return ["text"]
    raise InputError(
        f"{name} is a model of type {folder.model_type!r}, in which no encoder is known: images "
        f"are read by {', '.join(by_modality['image'])}, sounds by "
        f"{', '.join(by_modality['audio'])}, texts by "
        "models with a tokenizer."
    )
