"""Errors about raw items that cannot be decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from quickstudy.errors import InputError


class UnreadableError(InputError):
    """A raw input cannot be decoded; the message names it."""


class EmptyError(UnreadableError):
    """A text holds nothing that its tokenizer can read."""


@contextmanager
def naming(raw: Any, noun: str, words: Callable[[Exception], object] = str) -> Iterator[None]:
    """Makes of what goes wrong inside an ``UnreadableError`` that names the item.

    Args:
        raw: the item: a path, or an object that is named by its type.
        noun: the word for such an item in messages.
        words: what they say of an error.
    """
    try:
        yield
    except MemoryError:
        raise
    # Damaged files make decoders raise nearly anything (struct.error, EOFError, ...).
    except Exception as error:
        named = repr(str(raw)) if isinstance(raw, str | Path) else f"given as {type(raw).__name__}"
        advice = what_to_do_about([str(raw)]) if isinstance(raw, str | Path) else ""
        problem = f"The {noun} {named} cannot be read: {words(error)}"
        raise UnreadableError(f"{problem}.{advice}" if advice else problem) from error


_ADVICE: Mapping[str, str] = {
    "Convert them to WAV, FLAC or Ogg, which are read.": "m4a aac wma amr mka caf 3gp ra",
    "Videos are not read: save single frames as images, or the sound track as WAV.": (
        "mp4 avi mov mkv webm mpg mpeg wmv m4v flv"
    ),
    "Documents are not read: save their text as .txt, or their pages as images.": (
        "pdf doc docx odt rtf html htm ppt pptx epub"
    ),
    "Save them as PNG or TIFF, which are read.": "svg psd eps cr2 nef dng arw raw dcm exr xcf",
    "Load arrays with numpy or torch and pass them to ClassDataset.from_arrays.": (
        "npy npz pt pth pkl mat h5 hdf5 safetensors"
    ),
    "Save them as JPEG or PNG, which are read without further packages.": "heic heif",
    "To read a table, give its own path, not that of the folder around it.": "csv tsv",
    "Unpack archives first.": "zip tar gz tgz bz2 xz 7z rar",
    "Save a spreadsheet as CSV.": "xls xlsx ods",
}
_ADVICE_BY_ENDING = {
    f".{ending}": words for words, endings in _ADVICE.items() for ending in endings.split()
}


def what_to_do_about(paths: Iterable[str]) -> str:
    """Advice on the most frequent files of unknown types: a sentence after a space, or ""."""
    endings = Counter(PurePath(path).suffix.lower() for path in paths)
    known = [ending for ending, _ in endings.most_common() if ending in _ADVICE_BY_ENDING]
    return f" {_ADVICE_BY_ENDING[known[0]]}" if known else ""
