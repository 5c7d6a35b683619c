"""Encoders that others trained, through the libraries transformers and sentence-transformers."""

from quickstudy.encoders.pretrained.audio import PretrainedAudioEncoder
from quickstudy.encoders.pretrained.images import PretrainedImageEncoder
from quickstudy.encoders.pretrained.text import PretrainedTextEncoder

__all__ = ["PretrainedAudioEncoder", "PretrainedImageEncoder", "PretrainedTextEncoder"]
