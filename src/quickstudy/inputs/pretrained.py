"""What pretrained models read: made by their own image processors and tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from quickstudy.deprecated import RenamedAttribute
from quickstudy.errors import InputError
from quickstudy.inputs.depth import remark_if_black
from quickstudy.inputs.images import read_image
from quickstudy.inputs.text import CHARACTERS_A_SUBWORD, UnknownTexts, padded, readable
from quickstudy.inputs.unreadable import naming
from quickstudy.saving.model_files import ModelFolder, model_folder, require_pretrained_extra


@dataclass(frozen=True)
class PretrainedImageInputs:
    """Images as uint8 ``[3, height, width]``, as a pretrained model's own processor makes them.

    The image is brought upright and to RGB as by :class:`ImageInputs`; scaling, cropping and
    resampling are the processor's (``preprocessor_config.json``), in its variant for Pillow. Other
    than ``ImageInputs``, many models squeeze an image to a square or resample bicubically.

    Args:
        name: name of the model: a hub id or a local folder.
        revision: the hub's commit, tag or branch.

    Raises:
        FileNotFoundError, ValueError: as :func:`quickstudy.saving.model_files.model_folder`; or the
            processor leaves images in sizes of their own.
        ImportError: the extra "pretrained" is not installed.
    """

    modality: ClassVar[str] = "image"
    kind = RenamedAttribute("modality")

    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        # Loaded now, as images are decoded in threads.
        _processor(self.name, self.revision)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of every image."""
        return _blank_shape(self.name, self.revision)

    def decode(self, raw: Any) -> Tensor:
        """One image as uint8 ``[3, height, width]``, from anything ``ImageInputs.decode`` takes.

        Raises:
            UnreadableError: when it is not an image that can be read; the file is named.
        """
        processor = _processor(self.name, self.revision)
        with naming(raw, "image"):
            image = read_image(raw, "RGB")
            made = processor(images=image, do_rescale=False, do_normalize=False)
        pixels = np.ascontiguousarray(made["pixel_values"][0])
        remark_if_black(pixels, raw)
        return torch.from_numpy(pixels)

    def prepare(self, stored: Tensor) -> Tensor:
        """Float32 ``[B, 3, height, width]``, rescaled and normalised as the processor does.

        Floats are already prepared and are returned unchanged.
        """
        if stored.is_floating_point():
            return stored
        processor = _processor(self.name, self.revision)
        images = stored.to(torch.float32, copy=True)
        if processor.do_rescale:
            images.mul_(processor.rescale_factor)
        if processor.do_normalize:
            images.sub_(images.new_tensor(processor.image_mean)[:, None, None])
            images.div_(images.new_tensor(processor.image_std)[:, None, None])
        return images

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {"kind": self.modality, "pretrained": self.name, "revision": self.revision}


@dataclass(frozen=True)
class PretrainedTextInputs:
    """Texts as int32 ``[length]`` of a pretrained model's own tokens, its special ones among them.

    Behind a text stands 0; the number of a token is one more than in the model's vocabulary, so 0
    is never part of a text. A longer text is cut.

    Args:
        name: name of the model: a hub id or a local folder.
        revision: the hub's commit, tag or branch.
        length: tokens that are read of a text; None for the model's own limit, 512 at most.

    Raises:
        FileNotFoundError, ValueError: as :func:`quickstudy.saving.model_files.model_folder`; or the
            model reads fewer tokens than ``length``.
        ImportError: the extra "pretrained" is not installed.
    """

    modality: ClassVar[str] = "text"
    kind = RenamedAttribute("modality")

    name: str
    revision: str | None = None
    length: int | None = None

    def __post_init__(self) -> None:
        # Loaded now, as texts are decoded in threads.
        most = _Tokens.of(self.name, self.revision).most
        if self.length is None:
            object.__setattr__(self, "length", min(most, 512))
        elif not 1 <= self.length <= most:
            raise InputError(
                f"Texts of {self.length} tokens were asked for; {self.name} reads 1 to {most}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(length,) of every text."""
        return (self.length or 0,)

    def decode(self, raw: Any) -> Tensor:
        """One text as int32 ``[length]``, from a string or bytes in UTF-8.

        Raises:
            UnreadableError: when it is neither, or is empty or blank.
        """
        text = readable(raw)
        (length,) = self.shape
        return padded(_Tokens.of(self.name, self.revision).encode(text, length), length)

    def prepare(self, stored: Tensor) -> Tensor:
        """Int64 ``[B, length]`` from int32 of the same shape."""
        return stored.long()

    def unread(self, stored: Tensor) -> Tensor:
        """A mask ``[N]`` of the texts ``[N, length]`` without a word that the tokenizer knows."""
        return _Tokens.of(self.name, self.revision).unknown.rows(stored)

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to make this object again, as JSON-ready values."""
        return {
            "kind": self.modality,
            "pretrained": self.name,
            "revision": self.revision,
            "length": self.length,
        }


@lru_cache(maxsize=16)
def _processor(name: str, revision: str | None) -> Any:
    require_pretrained_extra()
    import transformers

    processors: Any = transformers.AutoImageProcessor
    folder = model_folder(name, revision)
    try:
        return processors.from_pretrained(
            folder.path, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, TypeError) as error:
        raise InputError(
            f"{name} does not say how images are prepared for it: its preprocessor_config.json "
            f"is missing or of a kind that needs more than Pillow ({error})."
        ) from error


@lru_cache(maxsize=16)
def _blank_shape(name: str, revision: str | None) -> tuple[int, ...]:
    inputs = PretrainedImageInputs(name, revision)
    shapes = {
        tuple(inputs.decode(np.zeros((height, width, 3), np.uint8)).shape)
        for height, width in ((48, 64), (64, 48))
    }
    if len(shapes) > 1:
        raise InputError(
            f"The image processor of {name} gives images of different sizes {sorted(shapes)}; one "
            "that crops or squeezes them to one size is needed."
        )
    return shapes.pop()


class _Tokens:
    """A model's tokenizer with all that the model's settings add to it.

    The Rust tokenizer is used as it is: setting its truncation for each text, as the Python one
    does, would disturb other threads.
    """

    def __init__(self, folder: ModelFolder) -> None:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(  # nosec B615 # a folder on the disk
                folder.path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # the libraries below raise many kinds
            raise InputError(f"{folder.name} has no tokenizer that can be read: {error}") from error
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"{folder.name} has a tokenizer ({type(tokenizer).__name__}) that the library "
                "`tokenizers` does not know; choose a model with a tokenizer.json."
            )
        self.rust = tokenizer.backend_tokenizer
        self.rust.no_padding()
        self.rust.no_truncation()
        self.special = self.rust.num_special_tokens_to_add(False)
        settings = folder.read("sentence_bert_config.json")
        self.lowercase = bool(settings.get("do_lower_case"))
        prompts = folder.read("config_sentence_transformers.json")
        named = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"))
        self.prompt = str(named or "")
        self.unknown = UnknownTexts(self.rust, self.prompt)
        text = folder.config.get("text_config") or folder.config
        positions = text.get("max_position_embeddings") or text.get("n_positions") or 10**9
        limits = [positions, tokenizer.model_max_length, settings.get("max_seq_length") or 10**9]
        self.most = int(min(*limits, 2**15))

    @staticmethod
    @lru_cache(maxsize=16)
    def of(name: str, revision: str | None) -> _Tokens:
        require_pretrained_extra()
        return _Tokens(model_folder(name, revision))

    def encode(self, text: str, length: int) -> list[int]:
        """At most ``length`` numbers of the vocabulary; special tokens survive the cut."""
        text = (self.prompt + text)[: CHARACTERS_A_SUBWORD * length]
        text = text.lower() if self.lowercase else text
        encoded = self.rust.encode(text, add_special_tokens=False)
        encoded.truncate(max(length - self.special, 1))
        numbers: list[int] = self.rust.post_process(encoded).ids
        return numbers[:length]
