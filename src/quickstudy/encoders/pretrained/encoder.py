"""The base of the pretrained encoders of all modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from quickstudy.encoders.encoder import Encoder
from quickstudy.errors import InputError
from quickstudy.inputs import Inputs
from quickstudy.saving.model_files import ModelFolder, model_folder, require_pretrained_extra

Tower = TypeVar("Tower")

UNUSED = ("pooler.", "masked_spec_embed")
"""Parts that some checkpoints lack; no vector depends on them, and they are removed."""


class PretrainedEncoder(Encoder):
    """A network that others trained, with the inputs that it was trained on.

    Its weights are converted to float32, and all of them can be trained further. It starts in
    evaluation mode. ``describe`` and ``build`` recreate it by name and revision.

    Args:
        name: a hub id, or a local folder (kept as its absolute path).
        revision: a branch, tag or commit of the hub; kept as the commit that was found.

    Attributes:
        inputs: turns raw items into its inputs.
    """

    inputs: Inputs
    towers: ClassVar[Mapping[str, Any]]
    """The part to use of models with several parts, by model type."""

    def __init__(self, name: str, revision: str | None) -> None:
        super().__init__()
        require_pretrained_extra()
        self.folder = model_folder(name, revision)
        self.name = self.folder.name
        self.revision = self.folder.revision

    def check(self, x: Tensor) -> None:
        """Refuses inputs of another shape (ValueError)."""
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(
                f"{type(self).__name__} of {self.name} reads inputs of shape "
                f"{list(self.input_shape)}, but got {list(x.shape[1:])}. Make them with its own "
                "`inputs`: load_dataset(..., inputs=encoder.inputs)."
            )


def tower_of(towers: Mapping[str, Tower], folder: ModelFolder, kind: str) -> Tower:
    """The entry for a model's architecture; refuses unknown ones (ValueError)."""
    if folder.model_type not in towers:
        raise InputError(
            f"{folder.name} is a model of type {folder.model_type!r}, in which no encoder of "
            f"{kind} is known. Known types: {', '.join(sorted(towers))}."
        )
    return towers[folder.model_type]


def load_weights(folder: ModelFolder, class_name: str) -> Any:
    """A model of the library transformers with all its weights, in evaluation mode.

    Raises:
        ValueError: when the weights do not fit, or some are missing.
    """
    import transformers

    with quiet():
        try:
            model, found = getattr(transformers, class_name).from_pretrained(
                folder.path,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(
                f"{folder.name} cannot be loaded as a {class_name}: {error}"
            ) from error
    missing = [name for name in found["missing_keys"] if not _unused(name)]
    if missing:
        raise InputError(
            f"The weights of {folder.name} lack {len(missing)} of {class_name}'s parameters, such "
            f"as {min(missing)!r}: they are incomplete or another model's."
        )
    return model.eval()


def remove_unused(model: nn.Module) -> None:
    """Drops what no vector depends on: its random values would make each loading another model."""
    for part in ("pooler", "masked_spec_embed"):
        if hasattr(model, part):
            setattr(model, part, None)


def _unused(parameter: str) -> bool:
    return any(part in parameter for part in UNUSED)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library from printing bars and reports on weights that are left out on purpose."""
    import transformers

    logging: Any = transformers.utils.logging
    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
