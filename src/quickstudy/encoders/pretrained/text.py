"""Pretrained models of sentences and of language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from quickstudy.encoders.normalization import transformed
from quickstudy.encoders.pretrained.encoder import (
    PretrainedEncoder,
    load_weights,
    quiet,
    remove_unused,
)
from quickstudy.errors import InputError
from quickstudy.inputs import PretrainedTextInputs
from quickstudy.saving.model_files import ModelFolder, require_pretrained_extra

Pooling = Literal["mean", "cls", "max"]


@dataclass(frozen=True)
class TextTower:
    """The text part of a model of two kinds.

    Args:
        model: the class in the library transformers.
        output: the vectors ``[B, D]`` in what the model answers.
        size: D, in the model's configuration.
        padded: whether it was trained on texts padded to full length, without a mask.
    """

    model: str
    output: str
    size: str
    padded: bool = False


TEXT_TOWERS = {
    "clip": TextTower("CLIPTextModelWithProjection", "text_embeds", "projection_dim"),
    "siglip": TextTower("SiglipTextModel", "pooler_output", "projection_size", padded=True),
    "clap": TextTower("ClapTextModelWithProjection", "text_embeds", "projection_dim"),
}
"""By the model type in ``config.json``: what training compared with images or sounds."""


class PretrainedTextEncoder(PretrainedEncoder):
    """A sentence encoder of sentence-transformers, or any transformer with pooling over its tokens.

    A folder with ``modules.json`` is used as sentence-transformers uses it: pooling, further layers
    and scaling to length 1 as the model has them, and its default prompt before each text. Of CLIP,
    SigLIP and CLAP the text tower's embedding is taken. Of any other transformer the last layer's
    tokens are pooled.

    Args:
        name: a hub id such as "sentence-transformers/all-MiniLM-L6-v2", or a local folder.
        revision: a branch, tag or commit of the hub.
        pooling: "mean" or "max" over a text's tokens, or "cls", the first token; None for the
            model's own, which is "mean" for a plain transformer.
        length: tokens that are read of a text; None for the model's own limit, 512 at most.

    Raises:
        FileNotFoundError, ValueError: as :func:`quickstudy.saving.model_files.model_folder`; or
            the model has no text encoder, or reads fewer tokens than ``length``.
        ImportError: the extra "pretrained" is not installed.
    """

    towers = TEXT_TOWERS

    def __init__(
        self,
        name: str,
        revision: str | None = None,
        pooling: Pooling | None = None,
        length: int | None = None,
    ) -> None:
        super().__init__(name, revision)
        if pooling is not None and pooling not in get_args(Pooling):
            raise InputError(f"The pooling {pooling!r} is unknown; choose mean, cls or max.")
        self.pooling = pooling
        self.length = length
        self.modular = self.folder.modular and pooling is None
        self.tower = None if self.modular else TEXT_TOWERS.get(self.folder.model_type)
        if self.tower is not None and pooling is not None:
            raise InputError(
                f"The text tower of {self.name} has a pooling of its own; leave pooling out."
            )
        self.inputs = PretrainedTextInputs(self.name, self.revision, length)
        self.input_shape = self.inputs.shape
        self.network: Any
        if self.modular:
            self.network = _sentence_transformer(self.folder)
            transformer = self.network[0].auto_model
            size = _size(self.network)
        else:
            self.network = transformer = load_weights(self.folder, self._model_class())
            size = getattr(transformer.config, self.tower.size if self.tower else "hidden_size", 0)
            if not size:
                raise InputError(
                    f"{self.name} is a model of type {self.folder.model_type!r}, in which no text "
                    "encoder is known: its settings have no hidden_size."
                )
        if self.tower is None:
            remove_unused(transformer)
        self.out_features = int(size)
        self.padding = int(getattr(transformer.config, "pad_token_id", None) or 0)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[B, out_features]`` of tokens ``[B, length]``; 0 is padding."""
        self.check(x)
        mask = x > 0
        padded = self.tower is not None and self.tower.padded
        if not padded and not transformed():
            # No computing on what is padding for all.
            width = max(1, int(mask.sum(1).max()))
            x, mask = x[:, :width], mask[:, :width]
        tokens = torch.where(mask, x - 1, self.padding)
        features = {"input_ids": tokens, "attention_mask": mask.long()}
        if self.modular:
            sentences: Tensor = self.network(features)["sentence_embedding"]
            return sentences
        if padded:
            del features["attention_mask"]
        output = self.network(**features)
        if self.tower is not None:
            vectors: Tensor = getattr(output, self.tower.output)
            return vectors
        return pool(output.last_hidden_state, mask, self.pooling or "mean")

    def _model_class(self) -> str:
        if self.tower is not None:
            return self.tower.model
        from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

        known = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(self.folder.model_type)
        if known is None and self.folder.config.get("is_encoder_decoder"):
            raise InputError(
                f"{self.name} is an encoder with a decoder ({self.folder.model_type}), of which "
                "the encoder alone cannot be loaded. Choose a model that only encodes."
            )
        return known or "AutoModel"


def pool(tokens: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector ``[B, D]`` of the tokens ``[B, L, D]`` that ``mask`` ``[B, L]`` lets through."""
    if pooling == "cls":
        return tokens[:, 0]
    here = mask[:, :, None]
    if pooling == "max":
        return tokens.masked_fill(~here, -torch.inf).amax(1)
    return (tokens * here).sum(1) / here.sum(1).clamp(min=1)


def _sentence_transformer(folder: ModelFolder) -> Any:
    require_pretrained_extra("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    with quiet():
        try:
            model = SentenceTransformer(
                str(folder.path),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder.name} cannot be loaded by sentence-transformers: {error}"
            ) from error
    if not hasattr(model[0], "auto_model"):
        raise InputError(
            f"{folder.name} begins with a {type(model[0]).__name__}; only models of "
            "sentence-transformers that begin with a Transformer are read."
        )
    return model


def _size(model: Any) -> int:
    """D of a model of sentence-transformers, whose version 6 gave the method another name."""
    named = getattr(model, "get_embedding_dimension", None)
    return int((named or model.get_sentence_embedding_dimension)())
