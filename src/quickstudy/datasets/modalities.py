"""The modalities: how their files end, and what their columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

IMAGE_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("avif", "bmp", "dib", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg"),
        *("pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
TEXT_ENDINGS = frozenset({".txt", ".md"})
SOUND_ENDINGS = frozenset(
    {".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
)


@dataclass(frozen=True)
class Modality:
    """What is read: images, texts or sounds.

    Args:
        name: as ``Inputs.modality`` has it.
        noun: one of them, in messages.
        endings: of its files, in small letters.
        columns: usual names of a table's column of them, in small letters, the most usual first.
    """

    name: str
    noun: str
    endings: frozenset[str]
    columns: tuple[str, ...]

    @property
    def nouns(self) -> str:
        """Several of them, in messages."""
        return f"{self.noun}s"


_FILES = ("file", "path", "file_name", "filename", "file_path", "filepath")

MODALITIES: Mapping[str, Modality] = {
    modality.name: modality
    for modality in (
        Modality(
            "image",
            "image",
            IMAGE_ENDINGS,
            ("image", "img", "picture", "photo", "pixels", "image_path", "image_file", *_FILES),
        ),
        Modality(
            "text",
            "text",
            TEXT_ENDINGS,
            (
                *("text", "sentence", "utterance", "query", "question", "content", "document"),
                *("review", "message", "comment", "tweet", "title", "headline", "body", "input"),
            ),
        ),
        Modality(
            "audio",
            "sound",
            SOUND_ENDINGS,
            (
                *("audio", "sound", "speech", "recording", "clip", "wav", "waveform"),
                *("audio_path", "audio_file", *_FILES),
            ),
        ),
    )
}
"""By the name that ``Inputs.modality`` has."""


def modality_of_file(path: str) -> str | None:
    """The kind of thing that a file holds, by its ending; None for any other file."""
    ending = PurePath(path).suffix.lower()
    return next(
        (modality.name for modality in MODALITIES.values() if ending in modality.endings), None
    )
