"""The last changes of a classifier's file, which it remembers so that they can be undone.

For each change the file keeps how its content before differed from its content after: the entries
of the header that changed, and of each tensor only the rows that the later one lacks. Undoing
restores the earlier content to the bit, without learning anything again; and as a file is written
in one piece, it never holds half of a change. Tensors that stay as they are, such as the weights
of an encoder, take no room.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy.classifier.file import FORMAT, UNDO, contents, load_model, save_model
from quickstudy.classifier.model import Model
from quickstudy.errors import InputError, MissingFileError
from quickstudy.saving.file_lock import changing
from quickstudy.saving.files import check_writable
from quickstudy.saving.tensor_file import read, write

MOST_CHANGES = 10
"""Number of changes that a file remembers."""

MOST_SHARE = 0.5
"""Room for them, as a share of the room that the classifier itself takes; one is always kept."""

LEAST_ROOM = 2**18
"""Bytes that they may take in any case: of small files nobody minds them."""

_WRITTEN_ANEW = ("format", "version", "strides", UNDO)

Content = tuple[dict[str, Any], dict[str, Tensor]]
"""Header and tensors of a file."""


def change_file(
    path: Path, change: Callable[[Model], tuple[Model, str]], forget: bool = False
) -> str:
    """Reads a classifier, changes it and writes it again, while no other process can change it.

    Args:
        path: path of the file.
        change: returns the changed model, and a sentence that describes the change.
        forget: keep neither what is needed to undo this change nor what earlier ones left.

    Returns:
        The sentence.

    Raises:
        MissingFileError: when there is no such file.
        InputError: as ``change`` and :func:`load_model`; the file stays as it was.
    """
    if not path.exists():
        raise MissingFileError(f"There is no classifier {str(path)!r}.")
    check_writable(path)
    with changing(path):
        before = read(path, FORMAT)
        model, done = change(load_model(path))
        if forget:
            save_model(model, path)
        else:
            _write(path, contents(model, path), before, done)
    return done


def undo(path: Path) -> str:
    """Takes back the last change of a file; returns the sentence that describes it.

    Raises:
        MissingFileError: when there is no such file.
        InputError: when there is nothing to undo, or the file is damaged.
    """
    if not path.exists():
        raise MissingFileError(f"There is no classifier {str(path)!r}.")
    check_writable(path)
    with changing(path):
        header, tensors = read(path, FORMAT)
        changes = header.get(UNDO)
        if not changes:
            raise InputError(
                f"{path} holds no change that could be undone. The changes of add, remove and "
                f"relabel can be undone, the last {MOST_CHANGES} at most; learning or saving the "
                "classifier begins without any."
            )
        try:
            write(path, FORMAT, *_restored(header, tensors))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise InputError(
                f"What {path} keeps of the change before cannot be read ({error!r})."
            ) from error
    return str(changes[0]["what"])


def changes_of(path: Path) -> list[str]:
    """The changes that can be undone, the last one first."""
    return [str(change["what"]) for change in read(path, FORMAT)[0].get(UNDO) or []]


def _write(path: Path, after: Content, before: Content, what: str) -> None:
    """Writes the content of a changed classifier and how to get back to the content before."""
    header, tensors = json.loads(json.dumps(after[0])), after[1]
    room = max(LEAST_ROOM, MOST_SHARE * _size(header, tensors))
    steps = [_difference(what, _without_changes(before), (header, tensors)), *_steps(before)]
    kept: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
    for step in steps[:MOST_CHANGES]:
        room -= _size(*step)
        if kept and room < 0:
            break
        kept.append(step)
    write(path, FORMAT, *_joined((header, tensors), kept))


def _restored(header: dict[str, Any], tensors: dict[str, Tensor]) -> Content:
    """The content before the last change, with the changes before that one."""
    (about, parts), *others = _steps((header, tensors))
    now, restored = _without_changes((header, tensors))
    for name, tensor in parts.items():
        form, _, whose = name.partition(".")
        if form == "whole":
            restored[whose] = tensor
        elif form == "numbers":
            rows = torch.cat([restored[whose], parts[f"rows.{whose}"]])
            restored[whose] = rows[tensor.long()]
    now |= about["header"]
    if "names" in about:
        later = header["names"]
        now["names"] = [later[each] if isinstance(each, int) else each for each in about["names"]]
    now = {key: value for key, value in now.items() if key not in about["no_header"]}
    restored = {name: each for name, each in restored.items() if name not in about["no_tensors"]}
    return _joined((now, restored), others)


def _difference(what: str, earlier: Content, later: Content) -> Content:
    """How to get from the later content to the earlier one."""
    (header, tensors), (new_header, new_tensors) = earlier, later
    changed = {key: each for key, each in header.items() if new_header.get(key, ...) != each}
    about: dict[str, Any] = {
        "what": what,
        "header": changed,
        "no_header": [key for key in new_header if key not in header],
        "no_tensors": [name for name in new_tensors if name not in tensors],
    }
    if "names" in changed:
        places = {name: number for number, name in enumerate(new_header["names"])}
        about["names"] = [places.get(name, name) for name in changed.pop("names")]
    parts: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        other = new_tensors.get(name)
        if other is None or not _same(tensor, other):
            parts |= {f"{form}.{name}": each for form, each in _rows(tensor, other).items()}
    return about, parts


def _rows(tensor: Tensor, later: Tensor | None) -> dict[str, Tensor]:
    """The rows ``[N, ...]`` of a tensor that the later one ``[M, ...]`` lacks, and where all are.

    Numbers from M on mean the rows that are kept. What shares no rows is kept whole.
    """
    if not _have_like_rows(tensor, later):
        return {"whole": tensor}
    assert later is not None
    places = {row: number for number, row in enumerate(_row_bytes(later))}
    numbers: list[int] = []
    lacking: list[int] = []
    for number, row in enumerate(_row_bytes(tensor)):
        if (place := places.get(row)) is None:
            place = len(later) + len(lacking)
            lacking.append(number)
        numbers.append(place)
    if len(lacking) == len(tensor):
        return {"whole": tensor}
    return {"numbers": torch.tensor(numbers, dtype=torch.int32), "rows": tensor[lacking]}


def _have_like_rows(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.ndim < 1 or one.shape[1:] != other.shape[1:]:
        return False
    both = (one, other)
    alike = one.dtype == other.dtype and all(each.is_contiguous() for each in both)
    return alike and all(each.numel() for each in both)


def _row_bytes(tensor: Tensor) -> list[bytes]:
    rows = tensor.detach().cpu().reshape(len(tensor), -1).view(torch.uint8).numpy()
    return [row.tobytes() for row in rows]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the bit, NaN included, and laid out alike."""
    form = (one.dtype, one.shape, one.stride())
    if form != (other.dtype, other.shape, other.stride()):
        return False
    flat = [each.detach().cpu().reshape(-1).view(torch.uint8) for each in (one, other)]
    return torch.equal(*flat)


def _without_changes(content: Content) -> Content:
    header, tensors = content
    return (
        {key: value for key, value in header.items() if key not in _WRITTEN_ANEW},
        {name: each for name, each in tensors.items() if not name.startswith(f"{UNDO}.")},
    )


def _steps(content: Content) -> list[Content]:
    """The changes that a content remembers, the last one first."""
    header, tensors = content
    return [
        (
            about,
            {
                name.removeprefix(start): each
                for name, each in tensors.items()
                if name.startswith(start)
            },
        )
        for number, about in enumerate(header.get(UNDO) or [])
        for start in [f"{UNDO}.{number}."]
    ]


def _joined(content: Content, steps: list[Content]) -> Content:
    """A content that remembers changes."""
    header, tensors = content
    remembered = {
        f"{UNDO}.{number}.{name}": each
        for number, (_, parts) in enumerate(steps)
        for name, each in parts.items()
    }
    about = {UNDO: [each for each, _ in steps]} if steps else {}
    return {**header, **about}, {**tensors, **remembered}


def _size(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """Bytes in a file."""
    return len(json.dumps(header)) + sum(each.nbytes for each in tensors.values())
